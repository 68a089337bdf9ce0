#!/bin/sh
# Installs what the tests start (PostgreSQL, RabbitMQ, Redis, nginx) and run (systemd-analyze, promtool, Node), where it is
# missing, from Debian's packages.
set -eu

missing=""
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing="$missing rabbitmq-server"
[ -x /usr/bin/redis-server ] || [ -x /usr/local/bin/redis-server ] || missing="$missing redis-server"
[ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
command -v promtool >/dev/null || missing="$missing prometheus"
# Whoever's they are: those that come from elsewhere bring npm with them and do not go together with Debian's.
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "The tests need$missing; without apt-get, install them by other means." >&2
    exit 1
fi

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"

echo "The tests start servers of their own. Installing for them:$missing (not started as services)"

# A package starts its service while it is installed, unless this file says no. One that is there already is not ours.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$sudo rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
fi

$sudo apt-get update -q
# shellcheck disable=SC2086 # one word per package
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing </dev/null
