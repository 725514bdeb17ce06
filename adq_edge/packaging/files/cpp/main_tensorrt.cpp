// Judges images with TensorRT 8.5 or later: one line of JSON for each PPM file of the size of the engine's input.
// This program was compiled against TensorRT's headers. It was never run.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <iostream>
#include <iterator>
#include <memory>

#include "decision.hpp"
#include "images.hpp"

struct Logger : nvinfer1::ILogger {
  void log(Severity severity, const char* text) noexcept override {
    if (severity <= Severity::kERROR) std::cerr << "tensorrt: " << text << std::endl;
  }
};
static void check(cudaError_t code) {
  if (code != cudaSuccess) throw std::runtime_error(cudaGetErrorString(code));
}
class Engine {
 public:
  Engine(const std::string& path, const Decider& decider) : decider_(decider) {
    std::ifstream file(path, std::ios::binary);
    std::vector<char> plan{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    runtime_.reset(nvinfer1::createInferRuntime(logger_));
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine_) throw std::runtime_error(path + ": TensorRT cannot load it");
    context_.reset(engine_->createExecutionContext());
    context_->setInputShape("image", nvinfer1::Dims4{1, decider.height, decider.width, 3});
    check(cudaStreamCreate(&stream_));
    check(cudaMalloc(&image_, size_t(decider.height) * decider.width * 3));
    context_->setTensorAddress("image", image_);
    for (const std::string& name : decider.outputs) {
      nvinfer1::Dims shape = context_->getTensorShape(name.c_str());
      size_t count = 1;
      for (int i = 0; i < shape.nbDims; ++i) count *= size_t(shape.d[i]);
      decider.check_size(device_.size(), count);
      void* memory = nullptr;
      check(cudaMalloc(&memory, count * sizeof(float)));
      context_->setTensorAddress(name.c_str(), memory);
      device_.push_back(memory), host_.emplace_back(count);
    }
  }
  Verdict judge(const std::vector<uint8_t>& pixels, double& score) {
    check(cudaMemcpyAsync(image_, pixels.data(), pixels.size(), cudaMemcpyHostToDevice, stream_));
    if (!context_->enqueueV3(stream_)) throw std::runtime_error("TensorRT cannot run the engine");
    for (size_t i = 0; i < host_.size(); ++i)
      check(cudaMemcpyAsync(host_[i].data(), device_[i], host_[i].size() * sizeof(float), cudaMemcpyDeviceToHost,
                            stream_));
    check(cudaStreamSynchronize(stream_));
    std::vector<const float*> arrays;
    bool finite = true;
    for (const std::vector<float>& one : host_) {
      arrays.push_back(one.data());
      finite = finite && is_finite(one.data(), one.size());
    }
    score = finite ? arrays[1][0] : NAN;
    return finite ? decider_.decide(arrays, pixels.data()) : Verdict{};
  }

 private:
  const Decider& decider_;
  Logger logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  cudaStream_t stream_ = nullptr;
  void* image_ = nullptr;
  std::vector<void*> device_;  // the memory is freed with the process
  std::vector<std::vector<float>> host_;
};
int main(int count, char** arguments) try {
  if (count < 4) throw std::runtime_error("usage: inspect ENGINE.plan decision.txt IMAGE.ppm...");
  Decider decider(arguments[2]);
  Engine engine(arguments[1], decider);
  return judge_files(count - 3, arguments + 3, decider, [&](std::vector<uint8_t>& pixels, double& score) {
    return engine.judge(pixels, score);
  });
} catch (const std::exception& problem) {
  std::cerr << "inspect: " << problem.what() << std::endl;
  return 2;
}
