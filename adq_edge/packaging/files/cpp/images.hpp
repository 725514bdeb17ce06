// Reads PPM files and prints verdicts as lines of JSON.
#pragma once
#include <cstdio>
#include <iostream>

#include "decision.hpp"

inline std::vector<uint8_t> read_ppm(const std::string& path, int height, int width) {
  std::ifstream file(path, std::ios::binary);
  std::string kind;
  int w = 0, h = 0, largest = 0;
  file >> kind >> w >> h >> largest;
  file.get();
  if (!file || kind != "P6" || largest != 255) throw std::runtime_error("not a PPM file (P6, 8 bits)");
  if (h != height || w != width)
    throw std::runtime_error("is " + std::to_string(h) + "x" + std::to_string(w) + ", the engine takes " +
                             std::to_string(height) + "x" + std::to_string(width) + ": resize it by area first");
  std::vector<uint8_t> pixels(size_t(h) * w * 3);
  if (!file.read(reinterpret_cast<char*>(pixels.data()), std::streamsize(pixels.size())))
    throw std::runtime_error("is cut off");
  return pixels;
}
inline std::string quoted(const std::string& text) {
  std::string found = "\"";
  for (unsigned char c : text) {
    char code[8];
    std::snprintf(code, sizeof code, c == '"' || c == '\\' ? "\\%c" : c < 32 ? "\\u%04x" : "%c", c);
    found += code;
  }
  return found + "\"";
}
inline std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", value);
  return std::isfinite(value) ? text : "null";
}
// Judges each file; an image without a verdict is never good. Returns the exit code; throws if a line is lost.
template <class Judge> int judge_files(int count, char** paths, const Decider& decider, Judge judge) {
  int failed = 0;
  for (int i = 0; i < count; ++i) {
    Verdict found;
    double score = NAN;
    std::string error = "null";
    try {
      std::vector<uint8_t> pixels = read_ppm(paths[i], decider.height, decider.width);
      found = judge(pixels, score);
    } catch (const std::exception& problem) {
      error = quoted(problem.what());
    }
    failed += found.verdict == "cannot judge";
    std::cout << "{\"image\": " << quoted(paths[i]) << ", \"verdict\": \"" << found.verdict
              << "\", \"score\": " << number(score) << ", \"product\": " << found.product
              << ", \"normalized_score\": " << number(found.score) << ", \"threshold\": " << number(found.threshold)
              << ", \"product_distance\": " << number(found.distance) << ", \"error\": " << error << "}" << std::endl;
    if (!std::cout) throw std::runtime_error("standard output cannot be written");
  }
  return failed ? 1 : 0;
}
