/* Compresses and decompresses a text, and says whether it came back. */
#include <stdio.h>
#include <string.h>
#include <zstd.h>

int main(void) {
  char text[10000], packed[11000], back[10000];
  for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('a' + i % 7);
  size_t size = ZSTD_compress(packed, sizeof packed, text, sizeof text, 3);
  if (ZSTD_isError(size)) return 1;
  if (ZSTD_decompress(back, sizeof back, packed, size) != sizeof text) return 2;
  if (memcmp(text, back, sizeof text) != 0) return 3;
  printf("zstd %s %zu\n", ZSTD_versionString(), size);
  return 0;
}
