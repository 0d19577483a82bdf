package topo_test

import (
	"fmt"
	"log"

	"weft/topo"
)

// What a command's flags say becomes a Spec, and that a Plan.
func Example() {
	spec, err := topo.Options{Topo: "linear,2", MAC: true}.Spec()
	if err != nil {
		log.Fatal(err)
	}
	plan, err := spec.Plan()
	if err != nil {
		log.Fatal(err)
	}
	for _, h := range plan.Hosts {
		fmt.Println(h.Name, h.IP, h.Interfaces[0].MAC)
	}
	for _, l := range plan.Links {
		fmt.Println(l.ID, l.A.Interface, l.B.Interface)
	}
	// Output:
	// h1 10.0.0.1/8 00:00:00:00:00:01
	// h2 10.0.0.2/8 00:00:00:00:00:02
	// 1 h1-eth0 s1-eth1
	// 2 h2-eth0 s2-eth1
	// 3 s2-eth2 s1-eth2
}

// A Plan changes as its network does.
func ExamplePlan_AddLink() {
	spec, err := topo.Generate("single,2")
	if err != nil {
		log.Fatal(err)
	}
	plan, err := spec.Plan()
	if err != nil {
		log.Fatal(err)
	}
	host, err := plan.AddHost(topo.Host{Name: "h3"})
	if err != nil {
		log.Fatal(err)
	}
	link, err := plan.AddLink(topo.Link{A: topo.LinkEnd{Node: "h3"}, B: topo.LinkEnd{Node: "s1"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(host.IP, link.A.Interface, link.B.Interface)

	_, err = plan.AddLink(topo.Link{A: topo.LinkEnd{Node: "h3"}, B: topo.LinkEnd{Node: "s2"}})
	fmt.Println(err)
	// Output:
	// 10.0.0.3/8 h3-eth0 s1-eth3
	// link (h3, s2): there is no node "s2"; write the name of a host or switch
}

func ExampleSpec_Validate() {
	spec := topo.Spec{
		Hosts: []topo.Host{{Name: "h1", MAC: "01:00:00:00:00:01"}},
		Links: []topo.Link{{A: topo.LinkEnd{Node: "h1"}, B: topo.LinkEnd{Node: "h1"}}},
	}
	fmt.Println(spec.Validate())
	// Output:
	// host h1: the MAC 01:00:00:00:00:01 is a multicast address; write one whose first byte is even
	// link (h1, h1): a link joins two nodes; write another end
}
