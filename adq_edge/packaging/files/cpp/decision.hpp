// Decides on the outputs of an engine as adq-edge does, with the numbers of decision.txt.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

struct Map {
  int height = 0, width = 0;
  std::vector<float> values;
};
struct Transform {
  bool log = false;
  float floor = 0;
  float operator()(float v) const { return log ? std::log(std::max(v, floor)) : v; }
};
struct Evidence { std::string kind; float center, spread; };
struct Positions { int height, width; std::vector<float> mean, spread; };
struct Product {
  std::string name;  // a JSON string with its quotation marks
  Transform raw, deep;
  double threshold, bound;
  bool has_limit;
  float limit;  // the largest score of the engine that is good
  std::vector<double> mean;
  std::vector<Evidence> evidence;
  Positions raw_positions, deep_positions;
};
struct Verdict {
  std::string verdict = "cannot judge", product = "null";
  double score = NAN, threshold = NAN, distance = NAN;
};

inline float at(const Map& m, int y, int x) {
  return m.values[std::min(y, m.height - 1) * m.width + std::min(x, m.width - 1)];
}
inline Map reduce(const Map& m, int block, bool mean) {  // the border is repeated for blocks that are not full
  if (block == 1) return m;
  Map r{(m.height + block - 1) / block, (m.width + block - 1) / block, {}};
  for (int y = 0; y < r.height; ++y)
    for (int x = 0; x < r.width; ++x) {
      float high = -std::numeric_limits<float>::infinity(), sum = 0;
      for (int i = 0; i < block * block; ++i) {
        float v = at(m, y * block + i / block, x * block + i % block);
        high = std::max(high, v), sum += v;
      }
      r.values.push_back(mean ? sum / float(block * block) : high);
    }
  return r;
}
inline Map blur(const Map& m) {  // a Gaussian of 0.7 positions; the border is repeated
  const float side = 0.2095f, middle = float(1.0 - 2.0 * 0.2095);
  Map rows = m, r = m;
  for (int i = 0; i < m.height * m.width; ++i) {
    int y = i / m.width, x = i % m.width;
    rows.values[i] = std::fma(at(m, y, x), middle, side * (at(m, y, std::max(x - 1, 0)) + at(m, y, x + 1)));
  }
  for (int i = 0; i < m.height * m.width; ++i) {
    int y = i / m.width, x = i % m.width;
    float sum = at(rows, std::max(y - 1, 0), x) + at(rows, y + 1, x);
    r.values[i] = std::fma(at(rows, y, x), middle, side * sum);
  }
  return r;
}
inline Map enlarge(const Map& m, int height, int width) {  // bilinear, between the centers of positions
  if (m.height == height && m.width == width) return m;
  auto place = [](int i, int size, int from, float& part) {
    part = float((i + 0.5) * (double(from) / size) - 0.5);
    int low = int(std::floor(part));
    part -= low;
    if (low < 0 || low >= from - 1) part = 0, low = std::min(std::max(low, 0), from - 1);
    return low;
  };
  Map r{height, width, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      float v, u;
      int top = place(y, height, m.height, v), left = place(x, width, m.width, u);
      float upper = at(m, top, left) * (1 - u) + at(m, top, left + 1) * u;
      float lower = at(m, top + 1, left) * (1 - u) + at(m, top + 1, left + 1) * u;
      r.values.push_back(upper * (1 - v) + lower * v);
    }
  return r;
}
inline Map apply(Map m, const Transform& t, const Positions* p = nullptr) {
  for (size_t i = 0; i < m.values.size(); ++i) {
    float v = t(m.values[i]);
    m.values[i] = p ? (v - p->mean[i]) / p->spread[i] : v;
  }
  return m;
}
inline bool is_finite(const float* values, size_t count) {
  return std::all_of(values, values + count, [](float v) { return std::isfinite(v); });
}

class Decider {
 public:
  std::string engine_sha256;
  int height, width, embedding;
  std::vector<std::string> outputs;

  explicit Decider(const std::string& path) : file_(path) {
    if (!file_) throw std::runtime_error(path + ": cannot be read");
    expect("adq-edge-decision"), expect("1"), expect("engine"), engine_sha256 = word();
    expect("image"), height = integer(1, kSide), width = integer(1, kSide), expect("outputs");
    for (int n = integer(2, 64); n--;) outputs.push_back(word());
    expect("map"), map_ = size(), map_block_ = integer(1, kSide), expect("deep");
    is_mean_ = word() == "mean", deep_ = size(), deep_block_ = integer(1, kSide);
    int most = int(outputs.size()) > 2 ? 1 << 20 : 0;  // the embedding is the third output
    expect("embedding"), embedding = integer(0, most), expect("products");
    if (!is_mean_ && outputs.size() < (embedding ? 4u : 3u)) throw std::runtime_error("decision.txt has no scale map");
    raw_grid_ = grid(map_, map_block_), deep_grid_ = grid(is_mean_ ? raw_grid_ : deep_, deep_block_);
    for (int n = integer(0, 1 << 16); n--;) products_.push_back(read_product());
    expect("end");
  }
  // Throws if an output has another number of values than that of the engine that decision.txt was made for.
  void check_size(size_t output, size_t count) const {
    size_t wanted = count;  // only the last scale map is read
    if (output == 0) wanted = size_t(map_.height) * map_.width;
    else if (output == 1) wanted = 1;
    else if (output == 2 && embedding) wanted = size_t(embedding);
    else if (output + 1 == outputs.size()) wanted = size_t(deep_.height) * deep_.width;
    if (count != wanted)
      throw std::runtime_error(outputs[output] + " has " + std::to_string(count) + " values, decision.txt names " +
                               std::to_string(wanted) + ": it is of another engine");
  }
  // The outputs of one image, in the order of `outputs`; pixels: uint8 RGB [height, width, 3].
  Verdict decide(const std::vector<const float*>& arrays, const uint8_t* pixels) const {
    Map raw = reduce(copy(map_, arrays[0]), map_block_, false);
    Map deep = reduce(is_mean_ ? raw : copy(deep_, arrays.back()), deep_block_, is_mean_);
    std::vector<double> seen = embed(embedding ? arrays[2] : nullptr, pixels);
    Verdict found;
    const Product* nearest = nullptr;
    double least = std::numeric_limits<double>::infinity();
    for (const Product& p : products_) {
      double sum = 0;
      for (size_t i = 0; i < seen.size(); ++i) sum += (p.mean[i] - seen[i]) * (p.mean[i] - seen[i]);
      if (sum < least) least = sum, nearest = &p;
    }
    if (!nearest) return found;
    const Product& p = *nearest;
    float score = fuse(p, raw, deep, arrays[1][0]);
    if (!std::isfinite(score)) return found;
    found.product = p.name, found.score = score, found.threshold = p.threshold;
    found.distance = std::sqrt(least) / p.bound;
    bool is_good = p.has_limit ? arrays[1][0] <= p.limit : double(score) <= p.threshold;
    found.verdict = !(found.distance <= 1.0) ? "unknown product" : is_good ? "good" : "defective";
    return found;
  }

 private:
  static constexpr int kSide = 8192;  // the longest side of an image or a map
  std::ifstream file_;
  Map map_, deep_, raw_grid_, deep_grid_;
  int map_block_, deep_block_;
  bool is_mean_;
  std::vector<Product> products_;

  std::string word() {
    std::string text;
    if (!(file_ >> text)) throw std::runtime_error("decision.txt is cut off");
    return text;
  }
  void expect(const std::string& wanted) {
    std::string found = word();
    if (found != wanted) throw std::runtime_error("decision.txt has " + found + " where " + wanted + " is due");
  }
  int integer(int least, int most) {
    std::string text = word();
    char* end = nullptr;
    long found = std::strtol(text.c_str(), &end, 10);
    if (*end || found < least || found > most)
      throw std::runtime_error("decision.txt has " + text + " where a number from " + std::to_string(least) + " to " +
                               std::to_string(most) + " is due");
    return int(found);
  }
  static double parse(const std::string& text) {
    char* end = nullptr;
    double found = std::strtod(text.c_str(), &end);
    if (*end || std::isnan(found)) throw std::runtime_error("decision.txt has " + text + " where a number is due");
    return found;
  }
  double number() { return parse(word()); }
  Map size() { int h = integer(1, kSide); return Map{h, integer(1, kSide), {}}; }
  static Map grid(const Map& m, int block) {
    return Map{(m.height + block - 1) / block, (m.width + block - 1) / block, {}};
  }
  template <class T> std::vector<T> numbers(size_t count) {
    std::vector<T> found(count);
    for (T& one : found) one = T(number());
    return found;
  }
  Transform transform(const char* name) { expect(name); bool log = word() == "log"; return {log, float(number())}; }
  Positions positions(const char* name, const Map& grid, bool needed) {
    expect(name);
    int h = integer(0, kSide), w = integer(0, kSide);
    if ((h || w || needed) && (h != grid.height || w != grid.width))
      throw std::runtime_error(std::string("decision.txt has ") + name + " of another size than the map");
    std::vector<float> mean = numbers<float>(size_t(h) * w);
    return {h, w, mean, numbers<float>(size_t(h) * w)};
  }
  Product read_product() {
    Product p;
    expect("product"), std::getline(file_ >> std::ws, p.name);
    p.raw = transform("raw"), p.deep = transform("deep");
    expect("threshold"), p.threshold = number(), expect("limit");
    std::string limit = word();
    p.has_limit = limit != "none", p.limit = p.has_limit ? float(parse(limit)) : 0;
    int values = embedding ? embedding : 192;
    expect("bound"), p.bound = number(), expect("mean"), p.mean = numbers<double>(integer(values, values));
    bool needs_raw = false, needs_deep = false;
    expect("evidence");
    for (int n = integer(1, 16); n--;) {
      std::string kind = word();
      if (kind.size() > 4) (kind[0] == 'r' ? needs_raw : needs_deep) = true;
      float center = float(number());
      p.evidence.push_back({kind, center, float(number())});
    }
    p.raw_positions = positions("raw_positions", raw_grid_, needs_raw);
    p.deep_positions = positions("deep_positions", deep_grid_, needs_deep);
    return p;
  }
  static Map copy(Map m, const float* values) {
    m.values.assign(values, values + size_t(m.height) * m.width);
    return m;
  }
  std::vector<double> embed(const float* values, const uint8_t* pixels) const {
    if (values) return {values, values + embedding};
    std::vector<double> found(192);  // the image, reduced to 8x8 by area
    int h = height / 8, w = width / 8;
    for (int i = 0; i < 192; ++i) {
      int sum = 0, y = i / 24 * h, x = i / 3 % 8 * w;
      for (int k = 0; k < h * w; ++k) sum += pixels[((y + k / w) * width + x + k % w) * 3 + i % 3];
      found[i] = float(std::nearbyint(sum * (1.0f / float(h * w))) / 255.0);
    }
    return found;
  }
  static float fuse(const Product& p, const Map& raw, const Map& deep, float engine_score) {
    Map total{raw.height, raw.width, std::vector<float>(raw.values.size(), 0.0f)};
    for (const Evidence& e : p.evidence) {
      bool is_raw = e.kind[0] == 'r', is_relative = e.kind.size() > 4;
      const Positions& positions = is_raw ? p.raw_positions : p.deep_positions;
      Map m = apply(is_raw ? raw : deep, is_raw ? p.raw : p.deep, is_relative ? &positions : nullptr);
      if (e.kind != "raw") m = enlarge(blur(m), raw.height, raw.width);
      for (size_t i = 0; i < m.values.size(); ++i) total.values[i] += (m.values[i] - e.center) / e.spread;
    }
    float count = float(p.evidence.size());
    for (float& v : total.values) v /= count;
    if (!is_finite(total.values.data(), total.values.size())) return NAN;
    if (!(p.evidence.size() == 1 && p.evidence[0].kind == "raw"))
      return *std::max_element(total.values.begin(), total.values.end());
    return (p.raw(engine_score) - p.evidence[0].center) / p.evidence[0].spread;
  }
};
