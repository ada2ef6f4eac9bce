// Uses a few corners of Abseil, and prints what they give.
#include <cstdio>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

int main() {
  absl::flat_hash_map<int, std::string> words = {{1, "one"}, {2, "two"}};
  std::string text = absl::StrCat(words[1], "-", words[2], " ", absl::FormatDuration(absl::Milliseconds(1500)));
  std::puts(text.c_str());
  return 0;
}
