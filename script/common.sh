# Sourced by the other scripts: goes to the project's folder and makes Python environments inside it.
# Everything that is fetched stays there: .cache/ holds tools, downloads and models, .venv*/ the environments.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
export UV_CACHE_DIR=${UV_CACHE_DIR:-$PWD/.cache/uv} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
uv=.cache/tools/bin/uv

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

quietly() { # COMMAND...: Ctrl-C ends it and this script, with one line instead of what the command would say of it
  set -m # a process group of its own, which the terminal's signal does not reach
  "$@" </dev/null &
  set +m
  trap 'kill -- -$! 2>/dev/null || true; wait $! 2>/dev/null || true; echo "${0##*/}: interrupted; start again to go on" >&2; exit 130' INT TERM HUP
  wait $!
  trap - INT TERM HUP
}

alone() { # waits until nobody else sets something up in this folder; `alone_no_more`, or the end, lets the next one go on
  mkdir -p .cache
  exec 9>.cache/lock
  command -v flock >/dev/null || return 0 # a Mac has none
  flock -n 9 && return
  echo "another one sets this folder up; waiting for it" >&2
  flock 9
}

alone_no_more() {
  exec 9>&-
}

need_python() { # PYTHON LEAST: a Python of at least that version
  command -v "$1" >/dev/null || die "$1 is not installed; on Debian: apt-get install python3"
  "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$2'.split('.'))))" ||
    die "$("$1" --version) is too old: Python $2 or newer is needed"
}

install_uv() {
  [ -x "$uv" ] && return
  need_python python3 3.11
  rm -rf .cache/tools
  # A Python that was packaged without ensurepip makes environments without pip; then pip is borrowed.
  if python3 -c 'import ensurepip' 2>/dev/null; then
    quietly python3 -m venv .cache/tools
    quietly .cache/tools/bin/python -m pip -q install uv
  else
    python3 -m venv --without-pip .cache/tools
    PYTHONPATH=$(borrowed_pip) quietly .cache/tools/bin/python -m pip -q install uv
  fi
}

borrowed_pip() { # prints the path of pip as a wheel, taken from a Debian package without installing that
  unpack_debian .cache/debian/pip "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" python3-pip-whl ||
    die "this Python has no pip; install it, on Debian: apt-get install python3-venv"
  echo "$PWD"/.cache/debian/pip/usr/share/python-wheels/pip-*.whl
}

unpack_debian() { # FOLDER SUITE PACKAGE...: unpacks packages of a Debian suite; nothing of this machine is changed
  apt_of_its_own "$2" && unpack_from "$2" "$1" "${@:3}"
}

apt_of_its_own() { # SUITE: makes .cache/debian/SUITE/apt.conf, by which apt knows this suite alone
  local suite=$1 state=$PWD/.cache/debian/$1 mirror
  command -v apt-get >/dev/null || return
  # The mirror that this machine's apt uses, known even before its first update.
  mirror=$(apt-get update --print-uris 2>/dev/null | awk -F"'|/dists/" '$2 ~ /\/debian\/?$/ && !found++ { print $2 }')
  [ -n "$mirror" ] || return
  rm -rf "$state"
  mkdir -p "$state"/{lists,archives,parts}/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$state/sources.list"
  cat >"$state/apt.conf" <<-END
	Dir::State::lists "$state/lists";
	Dir::Cache "$state";
	Dir::Etc::sourcelist "$state/sources.list";
	Dir::Etc::sourceparts "$state/parts";
	Acquire::Languages "none";
	APT::Sandbox::User "root";
	END
  APT_CONFIG=$state/apt.conf apt-get -qq update >&2
}

unpack_from() { # SUITE FOLDER PACKAGE...: for a suite that apt_of_its_own has made known
  local state=$PWD/.cache/debian/$1 folder=$2 package
  rm -rf "$folder"
  mkdir -p "$folder"
  (cd "$state" && APT_CONFIG=$state/apt.conf apt-get -qq download "${@:3}") >&2 || return
  for package in "$state"/*.deb; do dpkg-deb -x "$package" "$folder" && rm "$package" || return; done
}

environment() { # FOLDER PYTHON REQUIREMENT...: makes a virtual environment, unless it is there already
  local folder=$1 python=$2 stamp
  shift 2
  stamp=$(printf '%s\n' "$@" "$PWD" "$("$python" --version)" | cat - pyproject.toml | sha256sum)
  is_made "$folder" "$stamp" && return
  alone
  if ! is_made "$folder" "$stamp"; then # not by another one meanwhile
    install_uv
    echo "setting up $folder" >&2
    quietly "$uv" venv -q --clear --seed --python "$python" "$folder"
    quietly "$uv" pip install -q --python "$folder/bin/python" "$@"
    echo "$stamp" >"$folder/.stamp"
  fi
  alone_no_more
}

is_made() { # FOLDER STAMP
  [ "$(cat "$1/.stamp" 2>/dev/null)" = "$2" ]
}

test_environment() { # sets $env to the environment of this version of Python, or of Home Assistant; made if need be
  local python
  case $1 in
    3.11) need_python python3 3.11 && environment .venv-3.11 python3 -e '.[server,worker]' --group test --group lint ;;
    3.14) python=$(script/python314); environment .venv-3.14 "$python" -e '.[server,worker]' --group test --group browser --group home-assistant ;;
    ha-2026.10) python=$(script/python314); environment .venv-ha-2026.10 "$python" --group integration ;;
    ha-2026.11)
      # The plugin pins an older Home Assistant and what that needs; here the pins of the newer one count.
      test_environment 3.14
      { cat .venv-3.14/lib/python3.*/site-packages/homeassistant/package_constraints.txt &&
        .venv-3.14/bin/python -m pip freeze | grep -E '^(homeassistant|aiohasupervisor)=='; } >.cache/overrides.txt
      python=$(script/python314); environment .venv-ha-2026.11 "$python" --override .cache/overrides.txt --group integration
      ;;
  esac
  env=.venv-$1
}
