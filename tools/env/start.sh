# Run setup_env.py for the script that sources this, on a Python that is there.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for python in "${PYTHON:-}" "$here/../../.venv/bin/python" python3 \
    python3.13 python3.12 python3.11 python3.10; do
    if [[ $("$python" -c 'import sys; print(sys.version_info >= (3, 8))' 2>/dev/null) == True ]]; then
        exec "$python" "$here/setup_env.py" "${0##*/}" "$@"
    fi
done
echo "${0##*/}: error: Python 3.10 to 3.13 is needed: install one (Debian 12: apt install python3" \
    "python3-pip) or name it: PYTHON=/path/to/python3.12 bash tools/${0##*/}" >&2
exit 1
