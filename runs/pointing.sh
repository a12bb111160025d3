#!/usr/bin/env bash
# An experiment with the decoder's place on several lines: one head in each of the decoder's layers 1-3 is told, in training only,
# which image token holds the character to be written next (cross-entropy over the image tokens, weight POINT). The patch is
# against commit bdf6ab9:  git checkout bdf6ab9 && git apply runs/pointing.patch
#   DATA=folder OUT=folder bash runs/pointing.sh          (DATA as in runs/nano.sh)
# Results (pointing-eval.jsonl, tools/one_look.py), on documents that training never saw, one look, n = 24 a row (zh four lines 14, zh 2x8 five):
#                     shipped nano      after pointing-3
#   1x8 one line      en 3.5  zh 4.4    en 2.7  zh 4.1   % CER
#   2x8 two lines     en 55   zh 77     en 38   zh 43
#   2x24 two lines    en 51   zh 46     en 29   zh 36
#   4x24 four lines   en 76   zh 71     en 69   zh 66
# What pointing alone does: pointing-ab.jsonl, two runs of 300 steps at 2x8 that differ in POINT only (0 and 0.5), one seed:
# CER of 32 held-out samples en 35.6 -> 33.2, zh 126 -> 99 %. pointing-3.jsonl mixes it with more training at these sizes.
set -euo pipefail
: "${DATA:?folder with the training data}" "${OUT:?folder for log and checkpoints}"
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456
export OMP_NUM_THREADS=1 ACCELERATE_USE_CPU=true TOKENIZERS_PARALLELISM=false
COMMON="--recipe data_recipes/nano.yaml --init vary_nb/weights/nano --device cpu --threads 1 --glyph 0.5 --source text_en=$DATA/text_en.txt --source text_zh=$DATA/text_zh.txt --source pdf_en=$DATA/pdf_en --source pdf_zh=$DATA/pdf_zh --source photos=$DATA/photos"
for point in 0 0.5; do
  POINT=$point python -m vary_nb.train $COMMON --out $OUT/ab$point --lr 0.0015 --muon 0.004 --levels 2x8 --tokens 128 --steps 300 --eval-every 150 --eval-n 32
done
# HEADS: training.pt of stage 2 (runs/nano.sh), so that the glyph heads need not be learned again
POINT=0.3 HEADS=$OUT/stage2/last/training.pt torchrun --nproc_per_node 2 -m vary_nb.train $COMMON --out $OUT/stage3 --lr 0.0012 --muon 0.003 --seed 3 --tail 0.4 \
  --levels 1x4,1x6,1x8,1x10,1x12,1x16,1x20,1x24,2x6,2x8,2x12,2x16,2x24,4x8,4x12,4x24 --first 15 --mix 0.9 --tokens 128 --least 2 --minutes 98 --eval-every 500
