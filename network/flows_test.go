package network

import (
	"reflect"
	"testing"
)

func TestParseFlows(t *testing.T) {
	got := ParseFlows(`NXST_FLOW reply (xid=0x4):
 cookie=0x0, duration=4.5s, table=1, n_packets=0, n_bytes=0, idle_age=4, priority=0 actions=CONTROLLER:65535
 cookie=0xab, duration=1.25s, table=0, n_packets=2, n_bytes=196, idle_timeout=60, send_flow_rem priority=10,tcp,in_port=1,nw_src=10.0.0.0/8 actions=mod_nw_tos:4,output:2
 cookie=0x0, duration=9s, table=0, n_packets=1, n_bytes=42, arp actions=drop
`)
	want := []Flow{
		{Table: 0, Priority: 32768, Match: "arp", Actions: "drop", Cookie: "0x0", Age: 9, Packets: 1, Bytes: 42},
		{Table: 0, Priority: 10, Match: "tcp,in_port=1,nw_src=10.0.0.0/8", Actions: "mod_nw_tos:4,output:2", Cookie: "0xab", Age: 1.25, Idle: 60, Packets: 2, Bytes: 196},
		{Table: 1, Actions: "CONTROLLER:65535", Cookie: "0x0", Age: 4.5},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}
