package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// A ShellRequest runs a command line in a node's persistent shell (hosts and
// switches; "" means the fabric namespace, where Open vSwitch runs, as REPL `sh`).
type ShellRequest struct {
	Node    string `json:"node"`
	Command string `json:"command"`
	// TTY connects the command to the caller's terminal: input is forwarded, bytes
	// are not translated, and Rows and Cols are the window's size. Without it
	// the command reads end of file and newlines are plain.
	TTY  bool   `json:"tty,omitempty"`
	Rows uint16 `json:"rows,omitempty"`
	Cols uint16 `json:"cols,omitempty"`
	Term string `json:"term,omitempty"` // $TERM for the command
	// Env are variables that the command sees besides the shell's own (DISPLAY).
	Env []string `json:"env,omitempty"`
}

// Size is a terminal window's size.
type Size struct {
	Rows, Cols uint16
}

// Shell runs r and copies the command's output (both streams) to stdout until it
// ends or stops, and returns its exit status (128+n if signal n ended or stopped
// it). stdin may be nil; it is read only while the command runs. An interrupt, when
// received, sends Ctrl-C to the command. resize, if not nil, delivers new window sizes.
// ctx's end kills the command.
func (c *Client) Shell(ctx context.Context, r ShellRequest, stdin io.Reader, stdout io.Writer, interrupt <-chan struct{}, resize <-chan Size) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	conn, f, err := c.upgrade(ctx, "/v1/shell", shellProtocol, r)
	if err != nil {
		return 0, err
	}
	// The server kills the command when the connection ends.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	over := make(chan struct{})
	defer close(over)
	if stdin != nil {
		go func() {
			buf := make([]byte, 4096)
			for {
				n, err := stdin.Read(buf)
				if n > 0 && f.write(frameInput, buf[:n]) != nil || err != nil {
					return
				}
			}
		}()
	}
	go func() {
		for {
			select {
			case <-over:
				return
			case <-interrupt:
				f.write(frameInterrupt, nil)
			case s := <-resize:
				f.write(frameResize, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.Rows), s.Cols))
			}
		}
	}()
	for {
		kind, p, err := f.read()
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case err != nil:
			return 0, fmt.Errorf("%w (%s: %v)", ErrGone, r.Node, err)
		case kind == frameOutput:
			if _, err := stdout.Write(p); err != nil {
				return 0, err
			}
		case kind == frameExit && len(p) == 4:
			return int(binary.BigEndian.Uint32(p)), nil
		case kind == frameError:
			return 0, &Error{Message: string(p)}
		}
	}
}

// upgrade posts r and turns the connection into one of frames. It speaks HTTP by itself:
// net/http takes a process that does nothing else as long to start as all the rest.
func (c *Client) upgrade(ctx context.Context, path, protocol string, r any) (*net.UnixConn, *framer, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.path, Net: "unix"})
	if err != nil {
		return nil, nil, gone(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	head := "POST " + path + " HTTP/1.1\r\nHost: weft\r\nConnection: Upgrade\r\nUpgrade: " + protocol +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	buf := bufio.NewReader(conn)
	_, err = conn.Write(append([]byte(head), body...))
	if err == nil {
		err = switched(buf)
	}
	if err != nil {
		conn.Close()
		var refused *Error
		if errors.As(err, &refused) {
			return nil, nil, err
		}
		return nil, nil, gone(ctx, err)
	}
	return conn, &framer{r: buf, w: conn}, nil
}

// switched reads the answer to a request to switch protocols; that it is refused is an *Error.
func switched(r *bufio.Reader) error {
	const wanted = "HTTP/1.1 101 "
	if got, _ := r.Peek(len(wanted)); string(got) != wanted {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return answered(resp)
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil || strings.TrimSpace(line) == "" {
			return err
		}
	}
}
