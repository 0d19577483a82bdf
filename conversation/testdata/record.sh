#!/bin/sh
# Records the conversations that TestTshark compares: one file for each controller and
# version of OpenFlow in the directory DIR. PYTHON is one that has os-ken 4.2.2, for example
# that of a virtual environment. TABLES=1 asks for the features of tables too: 2.5 MB.
# PORT is where os-ken listens: 6653, or 6633 or 6634 if that is taken.
#
#	WEFT=weft PYTHON=venv/bin/python ROUNDS=1 SWITCHES=2 sh record.sh DIR
set -eu
here=$(dirname "$(readlink -f "$0")")
weft=${WEFT:-weft}
python=${PYTHON:-python3}
switches=${SWITCHES:-2}
export ROUNDS="${ROUNDS:-1}" PORT="${PORT:-6653}"
mkdir -p "$1"
cd "$1"

record() { # NAME PROTOCOL CONTROLLER
	rm -f "$1.pcapng.zst"
	"$weft" --topo "linear,$switches" --switch "ovs,protocols=$2" --controller "$3" \
		--capture "control=$1.pcapng.zst" --wait --test pingall --test pingall --post "$here/stay.txt" || true
}

for version in ${VERSIONS:-1.0 1.2 1.3 1.4 1.5}; do
	protocol=OpenFlow$(echo "$version" | tr -d .)
	VERSION=$version "$python" "$here/mixed.py" &
	controller=$!
	sleep 3
	record "os-ken-$version" "$protocol" remote,ip=127.0.0.1,port=$PORT
	kill "$controller" || true
	wait "$controller" || true
done
record builtin-1.0 OpenFlow10 builtin
record builtin-1.3 OpenFlow13 builtin
record ovsc-1.0 OpenFlow10 ovsc
record ovsc-1.3 OpenFlow13 ovsc
record ovsc-1.4 OpenFlow14 ovsc
