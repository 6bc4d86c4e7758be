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
    python3 -m venv .cache/tools
    .cache/tools/bin/python -m pip -q install uv
  else
    python3 -m venv --without-pip .cache/tools
    PYTHONPATH=$(borrowed_pip) .cache/tools/bin/python -m pip -q install uv
  fi
}

borrowed_pip() { # prints the path of pip as a wheel, taken from a Debian package without installing that
  unpack_debian .cache/debian/pip "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" python3-pip-whl ||
    die "this Python has no pip; install it, on Debian: apt-get install python3-venv"
  echo "$PWD"/.cache/debian/pip/usr/share/python-wheels/pip-*.whl
}

unpack_debian() { # FOLDER SUITE PACKAGE...: unpacks packages of a Debian suite; nothing of this machine is changed
  local folder=$1 suite=$2 state=$PWD/.cache/debian/$2 mirror package
  shift 2
  command -v apt-get >/dev/null || return
  # The mirror that this machine's apt uses, known even before its first update.
  mirror=$(apt-get update --print-uris 2>/dev/null | awk -F"'|/dists/" '$2 ~ /\/debian\/?$/ && !found++ { print $2 }')
  [ -n "$mirror" ] || return
  rm -rf "$folder" "$state"
  mkdir -p "$folder" "$state"/{lists,archives,parts}/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$state/sources.list"
  cat >"$state/apt.conf" <<-END
	Dir::State::lists "$state/lists";
	Dir::Cache "$state";
	Dir::Etc::sourcelist "$state/sources.list";
	Dir::Etc::sourceparts "$state/parts";
	Acquire::Languages "none";
	APT::Sandbox::User "root";
	END
  (cd "$state" && export APT_CONFIG=$state/apt.conf && apt-get -qq update && apt-get -qq download "$@") >&2 || return
  for package in "$state"/*.deb; do dpkg-deb -x "$package" "$folder" || return; done
}

environment() { # FOLDER PYTHON REQUIREMENT...: makes a virtual environment, unless it is there already
  local folder=$1 python=$2 stamp
  shift 2
  stamp=$(printf '%s\n' "$@" "$PWD" "$("$python" --version)" | cat - pyproject.toml | sha256sum)
  [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$stamp" ] && return
  install_uv
  echo "setting up $folder" >&2
  "$uv" venv -q --clear --seed --python "$python" "$folder"
  "$uv" pip install -q --python "$folder/bin/python" "$@"
  echo "$stamp" >"$folder/.stamp"
}

test_environment() { # sets $env to the environment of this version of Python, or of Home Assistant; made if need be
  local python
  case $1 in
    3.11) need_python python3 3.11 && environment .venv-3.11 python3 -e '.[server,worker]' --group test --group lint ;;
    3.14) python=$(script/python314); environment .venv-3.14 "$python" -e '.[server,worker]' --group test --group home-assistant ;;
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
