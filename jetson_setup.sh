#!/usr/bin/env bash
# Set up a Jetson for adq-edge. Steps and options: ./jetson_setup.sh --help
set -euo pipefail

ROOT=${ADQ_ROOT:-} # folder of etc, proc, sys, usr and var; set by the tests
PYTHON=${PYTHON:-/usr/bin/python3}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VENV=$HERE/.venv
STAMP=$VENV/.jetson-setup
CUDA=$ROOT/usr/local/cuda
VENV_MB=2000
TOOLKIT_MB=6000

check=no
max_performance=no
version= # of PYTHON
highest= # power mode as `ID NAME`
missing=()
packages=()

usage() {
    cat <<'EOF'
Usage: ./jetson_setup.sh [--check] [--max-performance]

Sets up a Jetson with JetPack 5.1 or later for adq-edge:
  1. Installs missing packages with apt: Python's venv and headers, g++, the CUDA toolkit and TensorRT for Python.
  2. Makes the environment .venv, which includes JetPack's TensorRT.
  3. Installs adq-edge there from wheels, and builds pycuda.
  4. Runs `adq-edge doctor`.

  --check            list the missing parts and change nothing; exit code 1 if a part is missing, else 0
  --max-performance  also set the power mode with the most power, and lock the clocks. The mode stays; the clocks
                     are unlocked when the board is switched off
  --help             print this text

Asks for your password (sudo) only to install with apt and to set power and clocks. Never restarts the board.
Run it again after an interruption: it skips the parts that are there. Exit code 2: nothing was changed.

Environment variable PYTHON: the Python to use. Default: /usr/bin/python3, for which JetPack has TensorRT.
EOF
}

print_line() { printf '%s\n' "$*"; }

refuse() {
    print_line "jetson_setup.sh: $*" >&2
    exit 2
}

fail() {
    print_line "jetson_setup.sh: $*" >&2
    exit 1
}

interrupted() {
    print_line "jetson_setup.sh: interrupted. Run it again to go on" >&2
    exit 130
}

as_root() {
    if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

read_file() { # FILE: print its text without the device tree's NULs; nothing if it cannot be read
    if [[ -r $1 ]]; then tr -d '\0' <"$1"; fi
}

# ---- state of the board ----

is_jetson() {
    [[ -e $ROOT/etc/nv_tegra_release ]] || [[ $(read_file "$ROOT/proc/device-tree/compatible") == *nvidia,tegra* ]]
}

l4t() { # print the release, such as 35.4.1; nothing if it is unknown
    read_file "$ROOT/etc/nv_tegra_release" |
        sed -n 's/.*R\([0-9]*\) *(release), *REVISION: *\([0-9][0-9.]*\).*/\1.\2/p'
}

has_venv() { "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; }

has_headers() {
    local folder
    folder=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [[ -f $ROOT$folder/Python.h ]]
}

has_compiler() { command -v g++ >/dev/null; }

has_nvcc() { [[ -x $CUDA/bin/nvcc ]]; }

has_tensorrt() {
    [[ -d $ROOT/usr/lib/python$version/dist-packages/tensorrt || -d $ROOT/usr/lib/python3/dist-packages/tensorrt ]]
}

cuda_package() { # print the toolkit package of this JetPack; not Ubuntu's nvidia-cuda-toolkit, which is for PCs
    case $(l4t) in
        35.*) print_line cuda-toolkit-11-4 ;;
        36.[0-3]*) print_line cuda-toolkit-12-2 ;;
        36.*) print_line cuda-toolkit-12-6 ;;
        38.*) print_line cuda-toolkit-13-0 ;;
        39.*) print_line cuda-toolkit-13-2 ;;
        *) print_line nvidia-jetpack ;;
    esac
}

print_stamp() { # print a stamp that changes with the required packages or the Python version
    cat "$HERE/pyproject.toml" "$HERE/constraints.txt" | sha256sum | cut -d ' ' -f 1
    print_line "$version"
}

has_environment() { [[ -x $VENV/bin/adq-edge && -f $STAMP && $(cat "$STAMP") == "$(print_stamp)" ]]; }

free_mb() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }'; }

# ---- power ----

# Print the mode with the most power as `ID NAME`, by name: MAXN_SUPER, MAXN, else most watts, then most cores.
# Prints nothing if no name indicates the power. adq_edge/hardware/power.py uses the same rule.
highest_mode() {
    read_file "$ROOT/etc/nvpmodel.conf" | awk '
        function close_mode(    watts, unlimited, rank) {
            if (name == "" || id == "") return
            watts = match(name, /[0-9]+W/) ? substr(name, RSTART, RLENGTH - 1) + 0 : 0
            unlimited = name ~ /^MAXN_SUPER/ ? 2 : name ~ /^MAXN/ ? 1 : 0
            if (!watts && !unlimited) return
            rank = unlimited * 1e9 + watts * 1e6 + cores * 1e3 - id
            if (best == "" || rank > top) { best = id " " name; top = rank }
        }
        { sub(/#.*/, ""); sub(/\r$/, "") }
        /^[ \t]*</ {
            close_mode(); id = name = ""; cores = 0
            if ($0 !~ /^[ \t]*<[ \t]*POWER_MODEL/) next
            gsub(/[<>"\047]/, " ") # blanks inside the brackets are optional, and so are quotes
            gsub(/[ \t]*=[ \t]*/, "=")
            for (i = 1; i <= NF; i++) {
                if ($i ~ /^ID=[0-9]+$/) id = substr($i, 4) + 0
                if ($i ~ /^NAME=/) name = substr($i, 6)
            }
        }
        $1 == "CPU_ONLINE" && $3 == 1 { cores++ }
        END { close_mode(); if (best != "") print best }'
}

current_mode() { # print the id of the current mode; nothing if it is unknown
    local digits
    digits=$(read_file "$ROOT/var/lib/nvpmodel/status" | sed -n 's/.*pmode:\([0-9][0-9]*\).*/\1/p')
    if [[ -n $digits ]]; then print_line "$((10#$digits))"; fi
}

clocks_locked() {
    local node highest_hz
    for node in "$ROOT"/sys/class/devfreq/*; do
        case ${node##*/} in
            *.gm20b | *.gp10b | *.gv11b | *.ga10b | *.gpu | gpu-gpc*)
                highest_hz=$(read_file "$node/max_freq")
                [[ -n $highest_hz && $(read_file "$node/min_freq") == "$highest_hz" ]]
                return
                ;;
        esac
    done
    return 1
}

has_nvpmodel() { command -v nvpmodel >/dev/null || [[ -x $ROOT/usr/sbin/nvpmodel ]]; }

set_performance() { # ID NAME
    local changed=no answer
    if [[ $(current_mode) != "$1" ]]; then
        print_line "setting the power mode to $2"
        # Some changes need a restart; nvpmodel asks for it on standard input. Answer no.
        answer=$(as_root nvpmodel -m "$1" 2>&1 <<<no) || true
        if [[ $(current_mode) != "$1" && $answer == *[Rr]"eboot required"* ]]; then
            fail "$2 takes a restart: sudo nvpmodel -m $1, answer YES, and run this again after the restart"
        elif [[ $(current_mode) != "$1" ]]; then
            print_line "$answer" >&2
            fail "the power mode is not $2, see above. Set it yourself: sudo nvpmodel -m $1"
        fi
        changed=yes
    fi
    if [[ $changed == yes ]] || ! clocks_locked; then
        print_line "locking the clocks"
        as_root jetson_clocks || fail "jetson_clocks failed, see above"
    fi
}

# ---- steps ----

check_part() { # DESCRIPTION PACKAGE CHECK: if CHECK fails, record DESCRIPTION and PACKAGE as missing
    if "$3"; then
        print_line "ok       $1"
    else
        print_line "missing  $1"
        missing+=("$1")
        packages+=("$2")
    fi
}

check_parts() {
    packages=()
    missing=()
    check_part "Python's venv" python3-venv has_venv
    check_part "Python's headers" python3-dev has_headers
    check_part "g++" g++ has_compiler
    check_part "CUDA toolkit" "$(cuda_package)" has_nvcc
    check_part "TensorRT for Python $version" python3-libnvinfer has_tensorrt
}

check_rest() { # report the parts that only --check covers
    if has_environment; then
        print_line "ok       adq-edge in .venv"
    else
        print_line "missing  adq-edge in .venv"
        missing+=(adq-edge)
        if ! has_space; then
            print_line "missing  disk space: $(free_mb "$HERE") MB are free, $(needed_mb) MB are needed"
        fi
    fi
    if [[ $max_performance == yes ]]; then
        if [[ $(current_mode) == "${highest%% *}" ]]; then
            print_line "ok       power mode ${highest#* }"
        else
            print_line "missing  power mode ${highest#* }"
            missing+=("power mode")
        fi
        if clocks_locked; then
            print_line "ok       locked clocks"
        else
            print_line "missing  locked clocks"
            missing+=("locked clocks")
        fi
    fi
}

needed_mb() { if has_nvcc && has_tensorrt; then print_line "$VENV_MB"; else print_line $((VENV_MB + TOOLKIT_MB)); fi; }

has_space() { [[ $(free_mb "$HERE") -ge $(needed_mb) ]]; }

install_packages() {
    print_line "installing with apt: ${packages[*]}"
    as_root apt-get update || fail "apt-get update failed, see above"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}" ||
        fail "apt-get install failed, see above"
    check_parts
    if [[ ${#missing[@]} -gt 0 ]]; then
        fail "still missing after apt installed ${packages[*]}: ${missing[*]}"
    fi
}

check_environment() { # refuse an environment of another Python version: it may be the user's own
    local other
    if [[ -f $VENV/pyvenv.cfg ]]; then
        other=$(sed -n 's/^version *= *\([0-9]*\.[0-9]*\).*/\1/p' "$VENV/pyvenv.cfg")
        if [[ $other != "$version" ]]; then
            refuse "$VENV belongs to Python $other, TensorRT to $version. Move it away, then run this again"
        fi
    fi
}

make_environment() {
    print_line "making $VENV"
    rm -f "$STAMP"
    "$PYTHON" -m venv --system-site-packages "$VENV"
    "$VENV/bin/python" -m pip install --upgrade 'pip>=23' || fail "pip cannot be brought up to date, see above"
    PATH=$CUDA/bin:$PATH "$VENV/bin/python" -m pip install --constraint "$HERE/constraints.txt" \
        --only-binary :all: --no-binary pycuda --editable "${HERE}[jetson]" ||
        fail "adq-edge cannot be installed, see above. Run this again to go on"
    print_stamp >"$STAMP.new"
    mv "$STAMP.new" "$STAMP"
}

parse_options() {
    local option
    for option in "$@"; do
        case $option in
            --check) check=yes ;;
            --max-performance) max_performance=yes ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) refuse "unknown option $option. There are: --check, --max-performance, --help" ;;
        esac
    done
}

check_machine() {
    is_jetson || refuse "this machine is not a Jetson. On a PC: make venv"
    case $(l4t) in
        [1-9].* | [12]?.* | 3[0-4].* | 35.1 | 35.1.*)
            refuse "L4T $(l4t) is older than JetPack 5.1, the first with TensorRT 8.5. Flash a later one" ;;
    esac
    if [[ -n ${SUDO_USER:-} ]]; then
        refuse "do not run this with sudo: root would own .venv. Run it as a normal user; it calls sudo itself"
    fi
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version=
    [[ $version =~ ^3\.([89]|[1-9][0-9])$ ]] ||
        refuse "$PYTHON is not Python 3.8 or later. Name one: PYTHON=/usr/bin/python3 ./jetson_setup.sh"
    highest=$(highest_mode)
    if [[ $max_performance == yes ]] && ! has_nvpmodel; then
        refuse "nvpmodel is not installed, so there are no power modes here. Omit --max-performance"
    fi
    if [[ $max_performance == yes && -z $highest ]]; then
        refuse "no mode in $ROOT/etc/nvpmodel.conf is known to be the highest. Set one yourself: sudo nvpmodel -m ID"
    fi
}

main() {
    trap interrupted INT TERM
    parse_options "$@"
    check_machine
    check_environment
    print_line "$(read_file "$ROOT/proc/device-tree/model"), L4T $(l4t)"
    check_parts
    if [[ $check == yes ]]; then
        check_rest
        if [[ ${#missing[@]} -eq 0 ]]; then exit 0; else exit 1; fi
    fi
    if ! has_environment; then
        has_space ||
            refuse "$(free_mb "$HERE") MB are free, $(needed_mb) MB are needed. Free some space, then run this again"
    fi
    if [[ ${#packages[@]} -gt 0 ]]; then install_packages; fi
    if has_environment; then print_line "ok       adq-edge in .venv"; else make_environment; fi
    if [[ $max_performance == yes ]]; then set_performance "${highest%% *}" "${highest#* }"; fi
    "$VENV/bin/adq-edge" doctor
    print_line "To use it: source $VENV/bin/activate"
}

main "$@"
