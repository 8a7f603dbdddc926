/* PROVENANCE */
/* void NAME(const float *x, float *y, long n): n examples x [n][INPUTS] -> y [n][OUTPUTS], units as the network's.

   cc -O3 -march=native -ffp-contract=fast -c NAME.c        (add -lm when linking)

   Layer by layer for one example, or where there are no maps for a few, so that a weight is read once for all of them:
   what is left of a compressed network stays in the caches near by. Every size below is a constant once a function is
   inlined. Each thread has buffers of its own, which may lie on its stack; with -DHERE= there is one pair, for boards,
   and for one thread at a time, and with -DEXAMPLES=1 it is as small as it can be. */
#include <math.h>
#ifndef HERE
#define HERE _Thread_local
#endif
#ifndef EXAMPLES
#define EXAMPLES 4 /* at once, through linear layers */
#endif
#ifdef __AVX512F__ /* numbers in a vector, and vectors of outputs at once: so many as the registers hold */
#define LANES 16
#define GROUPS 8
#else
#ifdef __AVX__
#define LANES 8
#else
#define LANES 4
#endif
#define GROUPS 4
#endif
#define LEAST(p, q) ((p) < (q) ? (p) : (q))
#define MOST (GROUPS > EXAMPLES ? GROUPS : EXAMPLES)
#define ALIGNED __attribute__((aligned(64)))
#define INLINE static inline __attribute__((always_inline))
#define MAPS 4 /* of a convolution, at once */
#define COLUMNS LEAST(LANES, 8)
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif
#define EACH for (int e = 0; e < n; e++)
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float strip __attribute__((vector_size(4 * COLUMNS)));

/* n examples x [n][from], in inputs each, w [in][width] -> y [n][to], out outputs each; n is 1 or EXAMPLES. Two sums of
   each output, so that none waits for the one before; the same ones whatever n is. */
INLINE void linear(const float *restrict x, float *restrict y, const float *restrict w, const float *restrict b,
                   int in, int out, int width, int n, int from, int to) {
  int wide = n > 1 ? 1 : GROUPS;
UNROLL
  for (int at = 0; at < width; at += wide * LANES) {
    int all = n > 1 ? n : LEAST(wide, (width - at) / LANES); /* sums: a vector's examples, or an example's vectors */
    vec sum[MOST], other[MOST], row;
UNROLL
    for (int k = 0; k < all; k++) {
      __builtin_memcpy(&sum[k], b + at + k / n * LANES, sizeof(vec));
      other[k] = (vec){0};
    }
    for (int i = 0; i + 1 < in; i += 2)
UNROLL
      for (int k = 0; k < all; k++) {
        const float *weight = w + i * width + at + k / n * LANES, *of = x + k % n * from + i;
        __builtin_memcpy(&row, weight, sizeof(vec));
        sum[k] += of[0] * row;
        __builtin_memcpy(&row, weight + width, sizeof(vec));
        other[k] += of[1] * row;
      }
UNROLL
    for (int k = 0; k < all; k++) {
      int start = at + k / n * LANES;
      if (in % 2) {
        __builtin_memcpy(&row, w + (in - 1) * width + start, sizeof(vec));
        sum[k] += x[k % n * from + in - 1] * row;
      }
      sum[k] += other[k];
      if (start < out) __builtin_memcpy(y + k % n * to + start, &sum[k], 4 * LEAST(LANES, out - start));
    }
  }
}

/* x [in][rows][columns], w [in][high][wide][MAPS] -> MAPS maps, of which the first out are kept: y [out][..][..] */
INLINE void convolution(const float *restrict x, float *restrict y, const float *restrict w, const float *restrict b,
                        int in, int rows, int columns, int out, int high, int wide, int down, int along) {
  int tall = (rows - high) / down + 1, broad = (columns - wide) / along + 1;
  for (int r = 0; r < tall; r++)
    for (int c = 0; c < broad; c += COLUMNS) {
      strip sum[MAPS], part;
UNROLL
      for (int k = 0; k < MAPS; k++) sum[k] = b[k] - (strip){0};
      for (int i = 0; i < in; i++)
        for (int u = 0; u < high; u++)
          for (int v = 0; v < wide; v++) {
            const float *from = x + (i * rows + r * down + u) * columns + c * along + v;
            const float *weight = w + ((i * high + u) * wide + v) * MAPS;
            if (along == 1)
              __builtin_memcpy(&part, from, sizeof(strip));
            else
              for (int j = 0; j < COLUMNS; j++) part[j] = from[j * along];
UNROLL
            for (int k = 0; k < MAPS; k++) sum[k] += part * weight[k];
          }
UNROLL
      for (int k = 0; k < out; k++)
        __builtin_memcpy(y + (k * tall + r) * broad + c, &sum[k], 4 * LEAST(COLUMNS, broad - c));
    }
}

/* x [maps][rows][columns] with a border of zeros */
INLINE void pad(const float *restrict x, float *restrict y, int maps, int rows, int columns, int above, int left) {
  int broad = columns + 2 * left, tall = rows + 2 * above;
  for (int i = 0; i < maps * tall * broad; i++) y[i] = 0;
  for (int m = 0; m < maps; m++)
    for (int r = 0; r < rows; r++)
      for (int c = 0; c < columns; c++) y[(m * tall + r + above) * broad + c + left] = x[(m * rows + r) * columns + c];
}

INLINE void pool(const float *restrict x, float *restrict y, int maps, int rows, int columns, int high, int wide,
                 int down, int along, int largest) {
  int tall = (rows - high) / down + 1, broad = (columns - wide) / along + 1;
  for (int m = 0; m < maps; m++)
    for (int r = 0; r < tall; r++)
      for (int c = 0; c < broad; c++) {
        const float *from = x + (m * rows + r * down) * columns + c * along;
        float found = largest ? from[0] : 0;
        for (int u = 0; u < high; u++)
          for (int v = 0; v < wide; v++) {
            float one = from[u * columns + v];
            found = !largest ? found + one : one > found || one != one ? one : found;
          }
        y[(m * tall + r) * broad + c] = largest ? found : found / (high * wide);
      }
}

/* the units that index [kept] names, each of so many positions */
INLINE void choose(const float *restrict x, float *restrict y, const int *index, int kept, int positions) {
  for (int i = 0; i < kept; i++)
    for (int p = 0; p < positions; p++) y[i * positions + p] = x[index[i] * positions + p];
}

INLINE void scale(float *y, const float *by, const float *plus, int units, int positions) {
  for (int i = 0; i < units; i++)
    for (int p = 0; p < positions; p++) y[i * positions + p] = by[i] * y[i * positions + p] + plus[i];
}
