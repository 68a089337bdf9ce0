#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, in ./secrets; what is there already stays as it is.
set -eu

cd "$(dirname "$0")/.."
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"  # nobody else gets through here; in the containers other users must be able to read the files

keep() { # keep NAME: standard input becomes that secret, unless there is one
    if [ ! -s "$folder/$1" ]; then
        cat >"$folder/.$1.new"
        chmod 444 "$folder/.$1.new"
        mv "$folder/.$1.new" "$folder/$1"
    fi
}

# Password and URL belong together: a URL is only ever made from the password that is kept.
openssl rand -hex 24 | keep postgres_password
openssl rand -hex 24 | sed 's/^/requirepass /' | keep redis_conf
openssl rand -hex 24 | sed 's/^/default_vhost = payhook\ndefault_user = payhook\ndefault_pass = /' | keep rabbitmq_conf

echo "postgresql+psycopg://payhook:$(cat "$folder/postgres_password")@postgres/payhook" | keep database_url
echo "amqp://payhook:$(sed -n 's/^default_pass = //p' "$folder/rabbitmq_conf")@rabbitmq/payhook" | keep broker_url
echo "redis://:$(sed -n 's/^requirepass //p' "$folder/redis_conf")@redis/0" | keep result_backend
openssl rand -base64 32 | tr '+/' '-_' | keep encryption_keys

for name in api_secret tls_certificate tls_key; do
    [ -s "$folder/$name" ] || missing="${missing:-} $folder/$name"
done
if [ -n "${missing:-}" ]; then
    echo "Still to be put there by you:$missing" >&2
    echo "(the merchant's API secret, and the certificate chain with its key; readable for all: the folder is not)" >&2
fi
