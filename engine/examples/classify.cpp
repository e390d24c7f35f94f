// Names the class of a picture: classify net.bcz picture.ppm, a PPM of bytes and of the network's size.
//   c++ -std=c++17 classify.cpp $(pkg-config --cflags --libs bcdzoo_engine) -o classify
#include <bcdzoo/engine.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <vector>

void require(bool holds, const char* message) {
  if (!holds) throw std::runtime_error(message);
}

int main(int count, char** words) try {
  require(count == 3, "classify net.bcz picture.ppm");
  bcdzoo_error error;
  bcdzoo_network* loaded = nullptr;
  require(bcdzoo_load(words[1], &loaded, &error) == BCDZOO_OK, error.message);
  const std::unique_ptr<bcdzoo_network, decltype(&bcdzoo_free)> network(loaded, bcdzoo_free);

  const int width = bcdzoo_width(loaded), height = bcdzoo_height(loaded);
  std::vector<char> pixels(size_t{3} * width * height);
  std::ifstream file(words[2], std::ios::binary);
  std::string magic, is_wide, is_high, largest;
  file >> magic >> is_wide >> is_high >> largest;
  file.get();
  require(magic == "P6" && is_wide == std::to_string(width) && is_high == std::to_string(height) && largest == "255" &&
              file.read(pixels.data(), pixels.size()),
          "the picture is no PPM of the network's size");

  std::vector<float> logits(bcdzoo_outputs(loaded));
  const auto* bytes = reinterpret_cast<const uint8_t*>(pixels.data());
  require(bcdzoo_run_pixels(loaded, bytes, 1, logits.data(), 0, nullptr, &error) == BCDZOO_OK, error.message);
  const int best = static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const char* const name = bcdzoo_class_name(loaded, best);
  std::cout << "class " << best << ", " << (name ? name : "which has no name") << ": " << logits[best] << "\n";
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
