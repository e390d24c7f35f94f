// Writes what the tests of the C interface, command and examples read: make_plan FOLDER.
#include <cstdio>
#include <fstream>

#include "plan_files.h"

using namespace bcdzoo;

int main(int count, char** words) {
  if (count != 2) return 2;
  // Images of 4×4. Each class adds up one channel, plus its bias.
  std::vector<float> weights(3 * 48);
  for (int channel = 0; channel < 3; ++channel)
    for (int pixel = 0; pixel < 16; ++pixel) weights[48 * channel + 16 * channel + pixel] = 1;
  const Bytes bias = aligned(floats({0.5, 0, -0.5}));
  const Bytes flat = operation("reshape", {input("x", 0)}, {text("shape") + u32(2) + wholes({0})}, {});
  const Bytes linear =
      operation("linear", {input("x", 1)}, {}, {constant("bias", 1, {3}, 0), constant("weight", 1, {3, 48}, 64)});
  const Bytes preprocess = "resize=4,crop=4,interpolation=bilinear,mean=0.5,std=0.5,channels=rgb";
  const Bytes all = description({3, 4, 4}, {flat, linear}, {text("one"), text("two"), text("three")}, preprocess);
  const Bytes folder = Bytes(words[1]) + "/";
  std::ofstream(folder + "net.bcz", std::ios::binary) << hashed(file_of(all, bias + floats(weights)));
  std::ofstream picture(folder + "picture.ppm", std::ios::binary);
  picture << "P6\n4 4\n255\n";
  for (int pixel = 0; pixel < 16; ++pixel) picture << '\x10' << '\xf0' << '\x20';
  return picture.flush() ? 0 : 1;
}
