// The f32 forms of methods/src/surrogate/*.rs, operation by operation.
#pragma once

// 2^y for y <= 0.
DEVICE float exp2_nonpositive(float y) {
  const float shift = 12582912.0f;  // 1.5 * 2^23: leaves round(y) in the low bits of the sum
  y = y >= -126.0f ? y : -126.0f;
  float shifted = y + shift;
  float f = y - (shifted - shift);
  float p = 1.0f + f * (0.693147180559945309f + f * (0.2402265f + f * (0.05550411f + f * (0.00961813f +
                        f * (0.0013333558f + f * 0.0001540353f)))));
  return p * __uint_as_float((__float_as_uint(shifted) + 127u) << 23);
}

DEVICE float sech2(float x) {
  float e = exp2_nonpositive((-2.0f * 1.44269504088896341f) * fabsf(x));
  return 4.0f * e / ((1.0f + e) * (1.0f + e));
}

DEVICE float derivative(const Neurons& a, float v) {
  switch (a.surrogate) {
    case 0: return fabsf(v) <= 0.5f ? a.p * sech2(a.q * v) : 0.0f;
    case 1: return fabsf(v) <= a.q ? a.p : 0.0f;
    case 2: return a.p * sech2(a.q * v);
    case 3: {
      float x = a.q - fabsf(v);
      return (x > 0.0f ? x : 0.0f) * a.p;
    }
    default: {
      float z = a.q * v;
      return a.p / (1.0f + z * z);
    }
  }
}
