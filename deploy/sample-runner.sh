#!/bin/sh
# A sample command for runs: works through the list in a PRD. Each item becomes a task on the board, is worked on for a
# moment and is done. Shows what a command of your own can do with what lokid hands it:
#
#   $1             the PRD                        LOKI_RUN_ID   the run
#   LOKI_URL       where lokid is                 LOKI_TOKEN    may write as long as the run lasts
#
# SECONDS_EACH says how long an item takes (default 2).
set -u

# The token goes to curl through its standard input: arguments can be read by everybody on the machine.
call() { # METHOD PATH [JSON]
  printf 'header = "Authorization: Bearer %s"\n' "$LOKI_TOKEN" |
    curl -sS --fail --max-time 10 -K - -X "$1" -H 'Content-Type: application/json' ${3:+--data "$3"} "$LOKI_URL$2"
}
text() { printf '%s' "$1" | tr -d '\000-\037' | cut -c 1-180 | sed 's/\\/\\\\/g; s/"/\\"/g'; }
move() { call POST "/api/tasks/$1/move" "{\"status\": \"$2\"}" >/dev/null; }

trap 'echo "asked to stop; tidying up"; exit 143' TERM

total=$(grep -c '^[[:space:]]*[-*] ' "$1")
if [ "$total" -eq 0 ]; then
  echo "the PRD holds no list: write one item a line, beginning with -" >&2
  exit 2
fi
echo "working through $total items"
done=0
# No pipe: the loop must run in this shell to count.
items=$(mktemp)
trap 'rm -f "$items"' EXIT
grep '^[[:space:]]*[-*] ' "$1" | sed 's/^[[:space:]]*[-*] //' > "$items"
while IFS= read -r item; do
  done=$((done + 1))
  printf '[%s/%s] %s\n' "$done" "$total" "$item"
  call POST "/api/v2/runs/$LOKI_RUN_ID/progress" \
    "{\"phase\": \"item $done of $total\", \"iteration\": $done, \"current_task\": \"$(text "$item")\"}" >/dev/null ||
    echo "the progress could not be reported" >&2
  task=$(call POST /api/tasks "{\"title\": \"$(text "$item")\"}" | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
  if [ -n "$task" ]; then move "$task" in_progress; fi
  # A child that is waited for, so that TERM is heard at once.
  sleep "${SECONDS_EACH:-2}" & wait $!
  if [ -n "$task" ]; then move "$task" done; fi
done < "$items"
echo "all $total items are done"
