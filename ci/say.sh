# How the scripts of ci/ talk: to stderr, legible without colour. Sourced, not run.
# shellcheck shell=bash

if [ -t 2 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
  bold=$'\e[1m' green=$'\e[32m' yellow=$'\e[33m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
else
  bold='' green='' yellow='' red='' dim='' plain=''
fi

say() { printf '%s\n' "$*" >&2; }
step() { say "${bold}==>${plain} $*"; }
done_() { say "${green}ok${plain}  $*"; }
warn() { say "${yellow}warning:${plain} $*"; }
note() { say "${dim}$*${plain}"; }

# die PROBLEM [HINT]
die() {
  say "${red}error:${plain} $1"
  [ -z "${2:-}" ] || say "hint: $2"
  exit 1
}
