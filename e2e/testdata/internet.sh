# Runs a command as user $1 on a machine with an Internet of its own: a default route to
# 192.0.2.1, behind which 203.0.113.1 answers pings and HTTP. Prints SAME if the machine's
# routes, rules, interfaces and sysctls are afterwards what they were.
#
# It is run as root in new network and mount namespaces.
set -e
uid=$1
shift
ip link set lo up
unshare -n sleep 600 &
net=$!
trap 'kill $net' EXIT
until [ "$(readlink /proc/$net/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link add up0 type veth peer name e0 netns $net
ip addr add 192.0.2.10/24 dev up0
ip link set up0 up
inside() { nsenter -t $net -n "$@"; }
inside ip addr add 192.0.2.1/24 dev e0
inside ip link set lo up
inside ip addr add 203.0.113.1/32 dev lo
inside ip link set e0 up
ip route add default via 192.0.2.1
# As distributions do: everybody may ping and open TUN devices.
echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range
mkdir -p /run/weft
mount -t tmpfs -o mode=700 none /run/weft # networks of one machine know of each other
mount -t tmpfs none /mnt
mknod /mnt/tun c 10 200
chmod 666 /mnt/tun
mount --bind /mnt/tun /dev/net/tun
for what in $HIDE; do
	case $what in
	tun) chmod 600 /mnt/tun ;;
	*) mount --bind /dev/null "$(command -v "$what")" ;;
	esac
done
state() {
	ip route
	ip -br link
	ip -4 -o address | sed 's/ valid_lft.*//'
	nft list ruleset
	grep -r . /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv4/ip_forward
}
before=$(state)
status=0
setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@" || status=$?
# What the kernel cleans up, it does in its own time.
for i in $(seq 100); do
	after=$(state)
	[ "$before" = "$after" ] && break
	sleep 0.1
done
if [ "$before" = "$after" ]; then
	echo SAME
else
	printf 'BEFORE\n%s\nAFTER\n%s\n' "$before" "$after"
fi
exit $status
