package api_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"weft/api"
	"weft/network"
	"weft/topo"
)

// A network that `weft up lab.yaml` brought up is pinged through, changed and asked.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	lab, err := api.Open("lab")
	if err != nil {
		log.Fatal(err) // there is no such network
	}
	result, err := lab.Ping(ctx, network.PingRequest{Hosts: []string{"h1", "h2"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Received, "of", result.Sent)

	if _, err := lab.AddHost(ctx, topo.Host{Name: "h3"}); err != nil {
		log.Fatal(err)
	}
	link, err := lab.AddLink(ctx, topo.Link{A: topo.LinkEnd{Node: "h3"}, B: topo.LinkEnd{Node: "s1"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(link.A.Interface, "is joined to", link.B.Interface)
}

// A program runs on a node much as exec.Cmd runs one here.
func ExampleClient_Command() {
	ctx := context.Background()
	lab, err := api.Open("lab")
	if err != nil {
		log.Fatal(err)
	}
	out, err := lab.Command(ctx, "h1", "ip", "-br", "addr").Output()
	var exit *api.ExitError
	switch {
	case errors.As(err, &exit):
		fmt.Printf("exit status %d: %s", exit.Status, exit.Stderr)
	case err != nil:
		log.Fatal(err)
	}
	fmt.Printf("%s", out)
}

// What happens is followed until the network ends.
func ExampleClient_Events() {
	lab, err := api.Open("lab")
	if err != nil {
		log.Fatal(err)
	}
	err = lab.Events(context.Background(), func(e network.Event) {
		if e.Kind == network.KindPortDown {
			fmt.Println(e.Node, e.Interface, "is down")
		}
	})
	if err != nil {
		log.Fatal(err)
	}
}
