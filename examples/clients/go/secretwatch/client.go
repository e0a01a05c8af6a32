// Package secretwatch keeps one secret current over the socket of secretwatch; it needs nothing but
// the standard library.
//
//	secret := secretwatch.New("db", "app", reconnect)
//	go secret.Follow(ctx)
//	...
//	now := secret.Current() // one snapshot per unit of work
package secretwatch

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

const (
	defaultSocket = "/run/secretwatch/secretwatch.sock"
	// How long secretwatch may hold a request until it says that nothing has changed.
	pollTime = 30 * time.Second
	// A sidecar that says nothing for so long after that is gone, even where the connection is not.
	graceTime = 10 * time.Second
	// Between attempts while the sidecar is away: doubled each time, and spread by a random half.
	firstDelay   = 100 * time.Millisecond
	longestDelay = 5 * time.Second
)

// Client follows a volume.
type Client struct {
	volume    string
	consumer  string
	onChange  func(context.Context, *Snapshot) error
	tokenFile string
	http      *http.Client
	random    *rand.Rand
	current   atomic.Pointer[Snapshot]
}

// New makes a client for the socket of SECRETWATCH_SOCKET.
//
// onChange is called before Current gives the snapshot: to open what the new credential is for.
// Where it fails, the last good snapshot stays, and it is called again; its error is logged, so it
// must not quote a value. Once it is done, secretwatch is told that consumer has adopted it.
func New(volume, consumer string, onChange func(context.Context, *Snapshot) error) *Client {
	socket := os.Getenv("SECRETWATCH_SOCKET")
	if socket == "" {
		socket = defaultSocket
	}
	return &Client{
		volume:    volume,
		consumer:  consumer,
		onChange:  onChange,
		tokenFile: os.Getenv("SECRETWATCH_TOKEN_FILE"),
		http:      overUnixSocket(socket),
		random:    rand.New(rand.NewSource(time.Now().UnixNano())),
	}
}

// Current gives the snapshot in use, or nil before the first one. Cheap, from any goroutine.
func (c *Client) Current() *Snapshot { return c.current.Load() }

// Follow keeps Current current until ctx is done.
func (c *Client) Follow(ctx context.Context) {
	var seen *Snapshot
	delay := firstDelay
	for ctx.Err() == nil {
		next, err := c.next(ctx, seen)
		if err == nil {
			seen = next
			err = c.use(ctx, seen)
		}
		if err == nil {
			delay = firstDelay
			continue
		}
		var refused *refusal
		if errors.As(err, &refused) && refused.retryAfter > delay {
			delay = refused.retryAfter
		}
		c.pause(ctx, err, delay)
		if delay *= 2; delay > longestDelay {
			delay = longestDelay
		}
	}
}

// pause says what is wrong and waits; whatever it is, the last good value stays.
func (c *Client) pause(ctx context.Context, err error, delay time.Duration) {
	if ctx.Err() != nil {
		return
	}
	version := "none"
	if now := c.Current(); now != nil {
		version = now.Version
	}
	pause := delay/2 + time.Duration(c.random.Int63n(int64(delay/2)))
	log.Printf("secretwatch: %s: %v; still using version %s, again in %.1f s",
		c.volume, err, version, pause.Seconds())
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// next gives the snapshot after the one that was seen last, or that one if nothing has changed.
func (c *Client) next(ctx context.Context, seen *Snapshot) (*Snapshot, error) {
	path := "/v1/secrets/" + url.PathEscape(c.volume)
	if seen != nil {
		// What is seen and not in use has failed: then only look whether there is a newer one.
		timeout := time.Duration(0)
		if seen == c.Current() {
			timeout = pollTime
		}
		path += fmt.Sprintf("?after=%s&timeout=%.0fs", url.QueryEscape(seen.Revision), timeout.Seconds())
	}
	status, body, err := c.ask(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	if status == http.StatusNotModified {
		return seen, nil
	}
	return parse(body)
}

func (c *Client) use(ctx context.Context, snapshot *Snapshot) error {
	// After a restart of secretwatch the same values have another revision.
	if !snapshot.hasValuesOf(c.Current()) {
		if err := c.onChange(ctx, snapshot); err != nil {
			return err
		}
	}
	c.current.Store(snapshot)
	return c.adopt(ctx, snapshot.Revision)
}

func (c *Client) adopt(ctx context.Context, revision string) error {
	path := "/v1/adoptions/" + url.PathEscape(c.volume) + "/" + url.PathEscape(c.consumer)
	_, _, err := c.ask(ctx, http.MethodPut, path, map[string]string{"revision": revision})
	var refused *refusal
	if errors.As(err, &refused) && refused.status == http.StatusConflict {
		return nil // it has rotated on or was restarted: the next request gets what is current
	}
	return err
}
