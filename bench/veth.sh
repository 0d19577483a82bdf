# Measures TCP over a bare veth pair between two network namespaces for $1 seconds.
# The benchmark starts it as the first process of new network, mount and PID namespaces.
set -e
mount --make-rprivate /
mount -t proc proc /proc
unshare -n sleep 3600 &
peer=$!
while [ "$(readlink /proc/$peer/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link add name v0 type veth peer name v1 netns $peer
ip addr add 10.0.0.1/24 dev v0
ip link set v0 up
nsenter -t $peer -n ip addr add 10.0.0.2/24 dev v1
nsenter -t $peer -n ip link set v1 up
nsenter -t $peer -n iperf -s >/dev/null &
until iperf -c 10.0.0.2 -n 1K >/dev/null 2>&1; do sleep 0.05; done
iperf -c 10.0.0.2 -t "$1" -f k
