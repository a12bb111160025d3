#!/usr/bin/env bash
# How the shipped nano weights were made. Two CPU cores, one process each.
#   DATA=folder OUT=folder bash runs/nano.sh
# DATA holds text_en.txt and text_zh.txt (running text, one paragraph a line; of each corpus every twentieth line was
# left out), pdf_en/ and pdf_zh/ (PDFs with a text layer), photos/. Sources, licences and SHA-256: vary_nb/weights/nano/README.md.
# The malloc settings keep large blocks instead of handing them back to the system after every step.
set -euo pipefail
: "${DATA:?folder with the training data}" "${OUT:?folder for log and checkpoints}"
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
export OMP_NUM_THREADS=1 ACCELERATE_USE_CPU=true TOKENIZERS_PARALLELISM=false
SOURCES="--source text_en=$DATA/text_en.txt --source text_zh=$DATA/text_zh.txt --source pdf_en=$DATA/pdf_en --source pdf_zh=$DATA/pdf_zh --source photos=$DATA/photos"
run() { torchrun --nproc_per_node 2 -m vary_nb.train --device cpu --threads 1 $SOURCES "$@"; }

# Stage 1, 74 minutes in all. It was stopped and started again five times to change settings (see the headers in
# nano-1.jsonl); a run that is started again with the same --out goes on where it stopped.
S1="--out $OUT/stage1 --levels 1x2,1x4,1x8,1x16,1x24,2x24,4x24,8x8"
# It began on data_recipes/nano.yaml (490 steps), then went on in clean print:
#   --recipe data_recipes/nano.yaml --tokens 128                            steps 0-231
#   --recipe data_recipes/nano.yaml --tokens 64 --promote 0.8               steps 231-490
#   --recipe data_recipes/nano_start.yaml --tokens 96 --promote 0.8         steps 490-746
#   --recipe data_recipes/nano_start.yaml --tokens 96 --promote 1.1         steps 746-1034
#   --recipe data_recipes/nano_start.yaml --tokens 96 --promote 1.4         steps 1034-1656
#   --recipe data_recipes/nano_start.yaml --tokens 96 --promote 0.8 --mix 0.25   steps 1656-2698
# A plain run that should do as well or better, though it has not been measured:
run --recipe data_recipes/nano_start.yaml $S1 --minutes 74 --tokens 96 --promote 1.2

# Stage 2, 72 minutes: all sizes at once from the first step (--first 9 --mix 0.9 draws the ten levels alike), all faces,
# wear on six in ten, one picture in ten without text, also in two-row sizes. From stage 1's weights as they were shipped.
run --recipe data_recipes/nano.yaml --init vary_nb/weights/nano --out $OUT/stage2 --minutes 72 --tokens 96 --lr 0.0015 --muon 0.004 --glyph 0.5 \
  --levels 1x4,1x6,1x8,1x10,1x12,1x16,1x20,1x24,4x12,8x8 --first 9 --mix 0.9 --eval-every 400
# (run at commit e65bfed; samples are numbered differently since, so another run draws other samples of the same mixture.
# Shipped are the weights of $OUT/stage2/final, with "reading_width": 256 in config.json.)
