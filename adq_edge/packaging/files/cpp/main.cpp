// Judges images with ONNX Runtime: one line of JSON for each PPM file (P6) of the size of the engine's input.
#include <onnxruntime_cxx_api.h>

#include "decision.hpp"
#include "images.hpp"

static Verdict judge(Ort::Session& session, const Decider& decider, std::vector<uint8_t>& pixels, double& score) {
  Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<int64_t> shape{1, decider.height, decider.width, 3};
  Ort::Value image =
      Ort::Value::CreateTensor<uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());
  std::vector<const char*> names;
  for (const std::string& name : decider.outputs) names.push_back(name.c_str());
  const char* input = "image";
  std::vector<Ort::Value> outputs =
      session.Run(Ort::RunOptions{nullptr}, &input, &image, 1, names.data(), names.size());
  std::vector<const float*> arrays;
  bool finite = true;
  for (Ort::Value& one : outputs) {
    size_t count = one.GetTensorTypeAndShapeInfo().GetElementCount();
    decider.check_size(arrays.size(), count);
    arrays.push_back(one.GetTensorMutableData<float>());
    finite = finite && is_finite(arrays.back(), count);
  }
  score = finite ? arrays[1][0] : NAN;
  return finite ? decider.decide(arrays, pixels.data()) : Verdict{};
}
int main(int count, char** arguments) try {
  if (count < 4) throw std::runtime_error("usage: inspect ENGINE.onnx decision.txt IMAGE.ppm...");
  Decider decider(arguments[2]);
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "adq-edge");
  Ort::SessionOptions options;
  if (const char* threads = std::getenv("OMP_NUM_THREADS")) options.SetIntraOpNumThreads(std::atoi(threads));
  Ort::Session session(env, arguments[1], options);
  return judge_files(count - 3, arguments + 3, decider, [&](std::vector<uint8_t>& pixels, double& score) {
    return judge(session, decider, pixels, score);
  });
} catch (const std::exception& problem) {
  std::cerr << "inspect: " << problem.what() << std::endl;
  return 2;
}
