// The vertices of a lattice as numbers, and the table that counts them. Included by lattice.cpp alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace getam {
namespace {

// A vertex: its first D coordinates, packed into words.
template <int kWords>
struct Key {
  uint64_t word[kWords] = {};

  bool operator==(const Key& other) const {
    bool equal = true;
    for (int w = 0; w < kWords; ++w) equal &= word[w] == other.word[w];
    return equal;
  }
  void operator+=(const Key& other) {
    for (int w = 0; w < kWords; ++w) word[w] += other.word[w];
  }
  // Bits that are well mixed at the top.
  uint64_t hash() const {
    uint64_t mixed = 0;
    for (int w = 0; w < kWords; ++w) {
      const uint64_t x = word[w] ^ mixed;
      mixed = (x ^ (x >> 29)) * 0x9E3779B97F4A7C15u;
    }
    return mixed;
  }
};

// How the coordinates share the words: each has as many bits as these points need, all of them in one word.
struct Layout {
  // lowest, highest: of the coordinates of the points' origins.
  Layout(const std::vector<int32_t>& lowest, const std::vector<int32_t>& highest) {
    const int dimensions = int(lowest.size());
    int bits = 0;
    for (int i = 0; i < dimensions; ++i) {
      // Corners lie up to D + 1 beyond the origins, and their neighbours as far again.
      offset.push_back(int64_t(lowest[i]) - 2 * (dimensions + 1));
      const int64_t values = int64_t(highest[i]) - lowest[i] + 4 * (dimensions + 1) + 1;
      int needed = 0;
      for (int64_t most = 1; most < values; most *= 2) ++needed;
      if (bits + needed > 63) {
        ++words;
        bits = 0;
      }
      word.push_back(words - 1);
      unit.push_back(uint64_t(1) << bits);
      bits += needed;
    }
  }

  int words = 1;
  std::vector<int64_t> offset;
  std::vector<int> word;
  std::vector<uint64_t> unit;
};

template <int kWords>
class Packing {
 public:
  explicit Packing(const Layout& layout) : layout_(layout), steps_(layout.unit.size() + 1) {
    const uint64_t corners = steps_.size();
    for (size_t j = 0; j < steps_.size(); ++j) {
      for (size_t i = 0; i + 1 < corners; ++i) {
        steps_[j].word[layout.word[i]] += i == j ? layout.unit[i] - corners * layout.unit[i] : layout.unit[i];
      }
    }
  }

  Key<kWords> pack(const int32_t* coordinates) const {
    Key<kWords> key;
    for (size_t i = 0; i < layout_.unit.size(); ++i) {
      key.word[layout_.word[i]] += uint64_t(int64_t(coordinates[i]) - layout_.offset[i]) * layout_.unit[i];
    }
    return key;
  }

  // The increment of a key for one step along direction i: +1 everywhere, and -(D + 1) at coordinate i.
  const Key<kWords>& step(int i) const { return steps_[i]; }

 private:
  const Layout& layout_;
  std::vector<Key<kWords>> steps_;
};

// Numbers the vertices in the order in which they are first met.
template <int kWords>
class VertexTable {
 public:
  explicit VertexTable(size_t expected) {
    int bits = 10;
    while ((size_t(1) << bits) < 2 * expected) ++bits;
    resize(bits);
  }

  uint32_t find_or_add(const Key<kWords>& key) {
    size_t slot = first_slot(key);
    for (; numbers_[slot] >= 0; slot = (slot + 1) & mask_) {
      if (slots_[slot] == key) return numbers_[slot];
    }
    slots_[slot] = key;
    numbers_[slot] = int32_t(keys_.size());
    keys_.push_back(key);
    if (2 * keys_.size() > mask_) grow();
    return uint32_t(keys_.size() - 1);
  }

  // -1 where there is no such vertex.
  int32_t find(const Key<kWords>& key) const {
    size_t slot = first_slot(key);
    for (; numbers_[slot] >= 0; slot = (slot + 1) & mask_) {
      if (slots_[slot] == key) break;
    }
    return numbers_[slot];
  }

  const std::vector<Key<kWords>>& keys() const { return keys_; }

 private:
  size_t first_slot(const Key<kWords>& key) const { return key.hash() >> shift_; }

  void resize(int bits) {
    slots_.assign(size_t(1) << bits, Key<kWords>());
    numbers_.assign(size_t(1) << bits, -1);
    mask_ = (size_t(1) << bits) - 1;
    shift_ = 64 - bits;
  }

  void grow() {
    resize(64 - shift_ + 1);
    for (size_t i = 0; i < keys_.size(); ++i) {
      size_t slot = first_slot(keys_[i]);
      while (numbers_[slot] >= 0) slot = (slot + 1) & mask_;
      slots_[slot] = keys_[i];
      numbers_[slot] = int32_t(i);
    }
  }

  std::vector<Key<kWords>> slots_;
  std::vector<int32_t> numbers_;
  std::vector<Key<kWords>> keys_;
  size_t mask_ = 0;
  int shift_ = 0;
};

}  // namespace
}  // namespace getam
