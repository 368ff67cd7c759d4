/* The hard LUT network on 512 samples at a time: encode, layers, counts of classes.

   bit i of a feature   x > t_i                                 one sample a bit of a word
   leaf (x_0, x_1)      one of 16 functions, found by four entries of the table
   t <- t_0 ^ ((t_0 ^ t_1) & x)                                 pin after pin from the third on
   count_k              ones of the outputs of class k, added bit plane by bit plane

   One generic kernel reads wiring and tables as data; nothing is generated, nothing is rounded. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 8, LANES = 64 * WORDS, LEAVES = 64, PLANES = 32, TILE = 8 };
typedef uint64_t Block __attribute__((vector_size(8 * WORDS)));

/* 64 bytes of 0 and 1 as a word, the first one its lowest bit: eight at a time by a product. */
static inline uint64_t word_of(const uint8_t *bytes) {
  uint64_t word = 0;
  for (int i = 0; i < 8; i++) {
    uint64_t eight = 0;
    for (int j = 0; j < 8; j++) eight |= (uint64_t)bytes[8 * i + j] << (8 * j);
    word |= (eight * 0x0102040810204080u >> 56) << (8 * i);
  }
  return word;
}

/* Columns are taken TILE at a time: a cache line of a sample is read once. */
#define ENCODER(TYPE, NAME)                                                                      \
  static void NAME(const TYPE *x, int64_t samples, int64_t features, const TYPE *thresholds,     \
                   int64_t bits, int64_t step, Block *out) {                                     \
    static const TYPE nothing;                                                                   \
    TYPE columns[TILE][LANES];                                                                   \
    for (int64_t first = 0; first < features; first += TILE) {                                   \
      const int64_t wide = features - first < TILE ? features - first : TILE;                    \
      for (int64_t s = 0; s < LANES; s++)                                                        \
        for (int64_t f = 0; f < wide; f++)                                                       \
          columns[f][s] = s < samples ? x[s * features + first + f] : nothing;                   \
      for (int64_t f = 0; f < wide; f++)                                                         \
        for (int64_t b = 0; b < bits; b++) {                                                     \
          const TYPE threshold = thresholds[(first + f) * step + b];                             \
          uint64_t words[WORDS];                                                                 \
          uint8_t above[LANES];                                                                  \
          for (int s = 0; s < LANES; s++) above[s] = columns[f][s] > threshold;                  \
          for (int w = 0; w < WORDS; w++) words[w] = word_of(above + 64 * w);                    \
          memcpy(out++, words, sizeof words);                                                    \
        }                                                                                        \
    }                                                                                            \
  }
ENCODER(float, encode_float)
ENCODER(double, encode_double)

static inline __attribute__((always_inline)) void layer(const Block *in, int64_t nodes,
                                                        const int32_t *index,
                                                        const uint8_t *leaves, Block *out,
                                                        const int pins) {
  const int count = 1 << (pins - 2);
  for (int64_t o = 0; o < nodes; o++, index += pins, leaves += count) {
    const Block a = in[index[0]], b = in[index[1]];
    const Block both[4] = {~a & ~b, a & ~b, ~a & b, a & b};
    Block function[16], t[LEAVES];
    function[0] = a ^ a;
    for (int k = 1; k < 16; k++) function[k] = function[k & (k - 1)] | both[__builtin_ctz((unsigned)k)];
    for (int i = 0; i < count; i++) t[i] = function[leaves[i]];
    for (int p = 2, left = count / 2; p < pins; p++, left /= 2) {
      const Block pin = in[index[p]];
      for (int i = 0; i < left; i++) t[i] = t[2 * i] ^ ((t[2 * i] ^ t[2 * i + 1]) & pin);
    }
    out[o] = t[0];
  }
}

static void any_layer(const Block *in, int64_t nodes, int64_t pins, const int32_t *index,
                      const uint8_t *leaves, Block *out) {
  switch (pins) {
    case 2: layer(in, nodes, index, leaves, out, 2); break;
    case 3: layer(in, nodes, index, leaves, out, 3); break;
    case 4: layer(in, nodes, index, leaves, out, 4); break;
    case 5: layer(in, nodes, index, leaves, out, 5); break;
    case 6: layer(in, nodes, index, leaves, out, 6); break;
    case 7: layer(in, nodes, index, leaves, out, 7); break;
    case 8: layer(in, nodes, index, leaves, out, 8); break;
  }
}

static void count(const Block *outputs, int64_t first, int64_t end, int64_t samples,
                  int64_t classes, int64_t k, int64_t *counts) {
  Block plane[PLANES];
  int planes = 0;
  memset(plane, 0, sizeof plane);
  for (int64_t o = first; o < end; o++) {
    if ((o - first + 1) >> planes) planes++;
    Block carry = outputs[o];
    for (int b = 0; b < planes; b++) {
      const Block both = plane[b] & carry;
      plane[b] ^= carry;
      carry = both;
    }
  }
  for (int64_t w = 0; 64 * w < samples; w++) {
    uint64_t sum[64] = {0};
    for (int b = 0; b < planes; b++) {
      const uint64_t bits = plane[b][w];
      for (int s = 0; s < 64; s++) sum[s] |= (bits >> s & 1) << b;
    }
    const int64_t here = samples - 64 * w < 64 ? samples - 64 * w : 64;
    for (int64_t s = 0; s < here; s++) counts[(64 * w + s) * classes + k] = (int64_t)sum[s];
  }
}

/* x (samples, features) of float or double (wide); thresholds (features, bits), or one row for
   all: step 0. widths (layers + 1): inputs, then nodes of each layer. index, leaves: of all nodes
   one after the other. starts (classes + 1): where the outputs of a class begin. counts (samples,
   classes). Returns 0, or 1 where there is no memory. */
int lut_counts(const void *x, int wide, int64_t samples, int64_t features, const void *thresholds,
               int64_t bits, int64_t step, int64_t layers, int64_t pins, const int64_t *widths,
               const int32_t *index, const uint8_t *leaves, int64_t classes,
               const int64_t *starts, int64_t *counts) {
  int64_t most = 0;
  for (int64_t i = 0; i <= layers; i++) most = widths[i] > most ? widths[i] : most;
  void *memory = 0;
  if (posix_memalign(&memory, sizeof(Block), 2 * (size_t)most * sizeof(Block))) return 1;
  Block *in = memory, *out = in + most;
  for (int64_t at = 0; at < samples; at += LANES) {
    const int64_t here = samples - at < LANES ? samples - at : LANES;
    if (wide)
      encode_double((const double *)x + at * features, here, features, thresholds, bits, step, in);
    else
      encode_float((const float *)x + at * features, here, features, thresholds, bits, step, in);
    const int32_t *wiring = index;
    const uint8_t *tables = leaves;
    for (int64_t i = 0; i < layers; i++) {
      const int64_t nodes = widths[i + 1];
      any_layer(in, nodes, pins, wiring, tables, out);
      wiring += nodes * pins;
      tables += nodes << (pins - 2);
      Block *swap = in;
      in = out;
      out = swap;
    }
    for (int64_t k = 0; k < classes; k++)
      count(in, starts[k], starts[k + 1], here, classes, k, counts + at * classes);
  }
  free(memory);
  return 0;
}
