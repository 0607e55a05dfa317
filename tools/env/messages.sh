# Talking to the user while something takes long; not a program of its own.
# Sourced with `set -Eeuo pipefail`. Needs: PROGRAM, the name errors start with.

CHILD=       # process group of the command that is running
DONE=        # set once the last word has been said
STEP=0       # number of the current step
STEPS=0      # how many there are

say() { printf '%s\n' "$*"; }

# die MESSAGE: the one line a failure ends with.
die() {
    DONE=1
    clear_line
    printf '%s: error: %s\n' "$PROGRAM" "$*" >&2
    exit 1
}

clear_line() { if [[ -t 1 ]]; then printf '\r\033[K'; fi; }

# Kill what still runs, whatever ends the script.
on_exit() {
    local status=$?
    if [[ -n $CHILD ]]; then
        kill -TERM -- "-$CHILD" 2>/dev/null || kill "$CHILD" 2>/dev/null || true
    fi
    if ((status != 0)) && [[ -z $DONE ]]; then
        clear_line
        printf '%s: error: stopped (status %d); run it again to go on\n' \
            "$PROGRAM" "$status" >&2
    fi
}

# on_error STATUS LINE FILE COMMAND: a command failed that nobody expected to.
on_error() {
    # In a subshell the parent sees the status and says the last word.
    if ((BASH_SUBSHELL > 0)) || [[ -n $DONE ]]; then return; fi
    DONE=1
    clear_line
    printf '%s: error: "%s" failed with status %d (%s, line %d); %s\n' \
        "$PROGRAM" "$4" "$1" "${3##*/}" "$2" \
        'that should not happen, please report it' >&2
}

set_traps() {
    trap on_exit EXIT
    trap 'on_error $? $LINENO "${BASH_SOURCE[0]-}" "$BASH_COMMAND"' ERR
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

minutes() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# last_line LOG: the last thing a command said, as progress.
last_line() {
    local line
    line=$(tail -c 2000 "$1" 2>/dev/null | tr '\r' '\n' |
        grep -av '^[[:space:]]*$' | tail -n 1) || true
    printf '%s' "${line#"${line%%[![:space:]]*}"}"
}

# show_progress LOG SECONDS: a live line on a terminal, else one every 30 s.
show_progress() {
    local text
    if [[ -t 1 ]]; then
        text="      $(minutes "$2")  $("${PROGRESS:-last_line}" "$1" "$2")"
        printf '\r\033[K%s' "${text:0:WIDTH-1}"
    elif (($2 >= NEXT_LINE)); then
        NEXT_LINE=$((NEXT_LINE + 30))
        text=$("${PROGRESS:-last_line}" "$1" "$2")
        printf '      %s  %s\n' "$(minutes "$2")" "${text:0:100}"
    fi
}

# run_logged LOG COMMAND...: run an external command, its output in LOG.
run_logged() {
    local log=$1 started=$SECONDS status=0
    shift
    NEXT_LINE=30
    # A session of its own, so that its children can be ended with it.
    "${SETSID[@]}" "$@" >"$log" 2>&1 </dev/null 9>&- &
    CHILD=$!
    while kill -0 "$CHILD" 2>/dev/null; do
        show_progress "$log" $((SECONDS - started))
        sleep 0.25
    done
    wait "$CHILD" || status=$?
    CHILD=
    clear_line
    return "$status"
}
WIDTH=80
if [[ -t 1 ]]; then WIDTH=$(tput cols 2>/dev/null || echo 80); fi
SETSID=()
if command -v setsid >/dev/null; then SETSID=(setsid); fi

# next_step LABEL: announce the next step of the setup.
next_step() {
    STEP=$((STEP + 1))
    say "[$STEP/$STEPS] $1"
}

# step LABEL LOG COMMAND...: one step of the setup, with its time.
step() {
    local label=$1 log=$2 started=$SECONDS
    shift 2
    next_step "$label"
    run_logged "$log" "$@" || explain_failure "$label" "$log"
    say "      done in $(minutes $((SECONDS - started)))"
}

# explain_failure LABEL LOG: the end of the log, then one line with the remedy.
explain_failure() {
    tail -n 12 "$2" | cut -c 1-200 | sed 's/^/      | /' >&2
    die "$(diagnose "$1" "$2")"
}

# diagnose LABEL LOG: what is missing and what to do, read off a log.
diagnose() {
    local label=$1 log=$2
    has() { grep -qiE "$1" "$log"; }
    if has 'No space left on device|Disk quota exceeded'; then
        echo "$label: the disk is full: free some space (about 3 GB are" \
            "needed, 10 GB with CUDA) and run this again"
    elif has 'Python\.h: No such file'; then
        echo "$label: Python's C headers are missing:" \
            "apt install python3-dev (or the -dev package of your Python)"
    elif has "(command|unable to execute) '?[^ ]*(g\+\+|gcc|c\+\+|cc)'?.*(not found|No such file)"; then
        echo "$label: no C++ compiler: apt install g++"
    elif has 'Killed signal|internal compiler error: Killed|ninja: fatal: .*memory|MemoryError'; then
        echo "$label: out of memory: run it again with MAX_JOBS=1 in front"
    elif has 'NewConnectionError|Temporary failure in name resolution|Network is unreachable|Connection (refused|reset|timed out)|ConnectTimeout|Read timed out|ProxyError|SSLError|ReadTimeoutError'; then
        echo "$label: the package index cannot be reached: check the network" \
            "(or pip's index and proxy settings: pip config list) and run" \
            "this again"
    elif has 'No matching distribution found for'; then
        echo "$label: pip found no version of" \
            "$(sed -n 's/.*No matching distribution found for \([^ ;]*\).*/\1/p' \
                "$log" | tail -n 1) for this Python and machine:" \
            "check pip's index settings (pip config list)"
    elif has 'Permission denied'; then
        echo "$label: no permission to write" \
            "$(sed -n "s/.*Permission denied: *//p" "$log" | tail -n 1):" \
            "make it yours (chown) and run this again"
    else
        echo "$label failed; the reason is in $log"
    fi
}
