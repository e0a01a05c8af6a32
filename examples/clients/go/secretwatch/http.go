package secretwatch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// refusal is an answer that is neither new values nor "nothing has changed".
type refusal struct {
	status     int
	code       string
	retryAfter time.Duration
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.status, r.code) }

func overUnixSocket(path string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	// A connection a request, so that none is a leftover of the sidecar before.
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	return &http.Client{Transport: transport, Timeout: pollTime + graceTime}
}

// ask gives the status, 200 to 299 or 304, and the body.
func (c *Client) ask(ctx context.Context, method, path string, document any) (int, []byte, error) {
	var content []byte
	if document != nil {
		var err error
		if content, err = json.Marshal(document); err != nil {
			return 0, nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	if c.tokenFile != "" { // read each time: the token may rotate as well
		token, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return 0, nil, err
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body) // fails where the connection ends before the body does
	if err != nil {
		return 0, nil, err
	}
	if answer.StatusCode >= 300 && answer.StatusCode != http.StatusNotModified {
		return 0, nil, refused(answer, body)
	}
	return answer.StatusCode, body, nil
}

func refused(answer *http.Response, body []byte) *refusal {
	var document struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &document) != nil || document.Error.Code == "" {
		document.Error.Code = "without a code"
	}
	seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if err != nil {
		seconds = 0
	}
	return &refusal{answer.StatusCode, document.Error.Code, time.Duration(seconds) * time.Second}
}
