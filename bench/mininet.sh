# Runs a Mininet command beside an Open vSwitch of its own, so that neither touches
# the machine's: mn deletes bridges, processes and files that it did not make.
# The benchmark starts it as the first process of new network, mount and PID
# namespaces. By hand:
#   unshare -n -m -p -f --mount-proc sh bench/mininet.sh mn --topo single,2 --test none
# $POST, if set, is what mn finds in /tmp/post (for --post). The last line on standard
# output is how long the command took, without the start of Open vSwitch.
set -e
mount --make-rprivate /
mount -t proc proc /proc
mkdir -p /etc/openvswitch /var/run/openvswitch /var/log/openvswitch
for dir in /tmp /etc/openvswitch /var/run/openvswitch /var/log/openvswitch; do
	mount -t tmpfs tmpfs $dir
done
ip link set lo up
ovsdb-tool create /etc/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server --remote=punix:/var/run/openvswitch/db.sock --pidfile --detach --no-chdir -vconsole:off
ovs-vsctl --no-wait init
ovs-vswitchd --pidfile --detach --no-chdir -vconsole:off
printf '%s' "$POST" >/tmp/post
set +e
start=$(date +%s%N)
"$@"
status=$?
echo "bench: $(($(date +%s%N) - start)) ns"
exit $status
