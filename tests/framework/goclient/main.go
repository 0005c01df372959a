// Command client is a static program without libc, as a guest may bring one: it looks names up,
// chooses addresses and speaks TLS, HTTP/2 and gRPC by Go's standard library alone.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	var err error
	switch os.Args[1] {
	case "get":
		err = get(os.Args[2])
	case "grpc":
		err = stream(os.Args[2], os.Args[3:])
	case "dial":
		err = dial(os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var client = &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true}}

func get(url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	fmt.Println(answer.Proto, strings.TrimSpace(string(body)))
	return err
}

// stream speaks gRPC: one call on which each message is answered before the next one is sent.
func stream(url string, words []string) error {
	reading, writing := io.Pipe()
	request, err := http.NewRequest("POST", url, reading)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	turn := make(chan error)
	go func() {
		for _, word := range words {
			message := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(word)))
			writing.Write(append(message, word...))
			if <-turn != nil {
				return
			}
		}
		writing.Close()
	}()
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	for range words {
		head := make([]byte, 5)
		if _, err = io.ReadFull(answer.Body, head); err != nil {
			return fmt.Errorf("a message: %w", err)
		}
		said := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err = io.ReadFull(answer.Body, said); err != nil {
			return err
		}
		fmt.Print(string(said), " ")
		turn <- nil
	}
	if _, err = io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	fmt.Println(answer.Proto, "status", answer.Trailer.Get("Grpc-Status"))
	return nil
}

// dial connects to a name of two families; whichever answers.
func dial(target string) error {
	dialer := net.Dialer{Timeout: 60 * time.Second}
	conn, err := dialer.Dial("tcp", target)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Println(conn.RemoteAddr().(*net.TCPAddr).IP)
	return nil
}
