#!/bin/sh
# Install the named Debian packages that are missing (as root on Debian or Ubuntu); otherwise say what is missing.
missing=""
for p in "$@"; do dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"; done
[ -z "$missing" ] && exit 0
echo "System packages not here:$missing"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "Installing them with apt-get."
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
  echo "apt-get could not install them."
fi
echo "Without them: fonts-* - drawn text has fewer faces; fonts-noto-color-emoji, unicode-cldr-core - no scenes;"
echo "chromium - browser tests are skipped; slurm-wlm, munge - the test on Slurm is skipped;"
echo "texlive-*, lmodern, latex-cjk-* - no pages from LaTeX sources, and their tests are skipped;"
echo "poppler-utils, tesseract-ocr - the comparisons with the paper's way and with Tesseract are skipped."
exit 0
