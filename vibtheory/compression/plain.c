/* PROVENANCE */
/* void NAME(const float *x, float *y, long n): n examples x [n][INPUTS] -> y [n][OUTPUTS], units as the network's.

   cc -O3 -march=native -ffp-contract=fast -c NAME.c        (add -lm when linking)

   One example at a time: what is left of a compressed network stays in the first-level cache, weights included.
   Every size below is a constant once a function is inlined. Each thread has buffers of its own, which may lie on its
   stack; with -DHERE= there is one pair, for boards, and for one thread at a time. */
#include <math.h>
#ifndef HERE
#define HERE _Thread_local
#endif
#define LEAST(p, q) ((p) < (q) ? (p) : (q))
#define ALIGNED __attribute__((aligned(4 * MANY)))
#define INLINE static inline __attribute__((always_inline))
#define MANY 16  /* outputs of a linear layer, or columns of a map, that are summed at once */
#define GROUPS 8 /* as many times MANY outputs */
#define MAPS 4   /* maps of a convolution at once */
typedef float vec __attribute__((vector_size(4 * MANY)));
typedef float half __attribute__((vector_size(2 * MANY)));

/* x [in], w [in][groups * MANY] -> y [out]; two sums of each output, so that none waits for the one before */
INLINE void linear(const float *restrict x, float *restrict y, const float *restrict w, const float *restrict b,
                   int in, int out, int groups) {
  vec sum[GROUPS], other[GROUPS], row;
  for (int g = 0; g < groups; g++) {
    __builtin_memcpy(&sum[g], b + g * MANY, sizeof(vec));
    other[g] = (vec){0};
  }
  for (int i = 0; i + 1 < in; i += 2)
#pragma GCC unroll 8
    for (int g = 0; g < groups; g++) {
      const float *weight = w + (i * groups + g) * MANY;
      __builtin_memcpy(&row, weight, sizeof(vec));
      sum[g] += x[i] * row;
      __builtin_memcpy(&row, weight + groups * MANY, sizeof(vec));
      other[g] += x[i + 1] * row;
    }
  for (int g = 0; in % 2 && g < groups; g++) {
    __builtin_memcpy(&row, w + ((in - 1) * groups + g) * MANY, sizeof(vec));
    sum[g] += x[in - 1] * row;
  }
#pragma GCC unroll 8
  for (int g = 0; g < groups; g++) {
    sum[g] += other[g];
    __builtin_memcpy(y + g * MANY, &sum[g], 4 * LEAST(MANY, out - g * MANY));
  }
}

/* x [in][rows][columns], w [in][high][wide][MAPS] -> MAPS maps, of which the first out are kept: y [out][..][..] */
INLINE void convolution(const float *restrict x, float *restrict y, const float *restrict w, const float *restrict b,
                        int in, int rows, int columns, int out, int high, int wide, int down, int along) {
  int tall = (rows - high) / down + 1, broad = (columns - wide) / along + 1;
  for (int r = 0; r < tall; r++)
    for (int c = 0; c < broad; c += MANY / 2) {
      half sum[MAPS], part;
#pragma GCC unroll 4
      for (int k = 0; k < MAPS; k++) sum[k] = b[k] - (half){0};
      for (int i = 0; i < in; i++)
        for (int u = 0; u < high; u++)
          for (int v = 0; v < wide; v++) {
            const float *from = x + (i * rows + r * down + u) * columns + c * along + v;
            const float *weight = w + ((i * high + u) * wide + v) * MAPS;
            if (along == 1)
              __builtin_memcpy(&part, from, sizeof(half));
            else
              for (int j = 0; j < MANY / 2; j++) part[j] = from[j * along];
#pragma GCC unroll 4
            for (int k = 0; k < MAPS; k++) sum[k] += part * weight[k];
          }
#pragma GCC unroll 4
      for (int k = 0; k < out; k++)
        __builtin_memcpy(y + (k * tall + r) * broad + c, &sum[k], 4 * LEAST(MANY / 2, broad - c));
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
