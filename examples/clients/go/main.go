// An app that goes on when its credential rotates: go run . [VOLUME [CONSUMER]]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"example.com/secretwatch-client/secretwatch"
)

// connect stands for opening a connection pool: fail where the new credential does not work.
func connect(_ context.Context, snapshot *secretwatch.Snapshot) error {
	password, err := snapshot.Bytes("password")
	if err != nil {
		return err
	}
	fmt.Printf("using version %s, a password of %d bytes\n", snapshot.Version, len(password))
	return nil
}

func argument(n int, otherwise string) string {
	if len(os.Args) > n {
		return os.Args[n]
	}
	return otherwise
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	secret := secretwatch.New(argument(1, "db"), argument(2, "go"), connect)
	// An app follows in a goroutine of its own, and takes secret.Current() once per request.
	secret.Follow(ctx)
	fmt.Println("stopped")
}
