// Makes the tasks of a plan, operation by operation, and the memory that they use. One class in three files:
// prepare.cpp has what all share, build_bits.cpp the convolutions of bits, build_real.cpp everything else.
#pragma once

#include <functional>
#include <map>

#include "analysis.h"
#include "binary_tasks.h"
#include "prepare.h"
#include "real_tasks.h"

namespace bcdzoo {

class Builder {
 public:
  explicit Builder(const Plan& plan) : known_(plan), places_(plan.shapes.size()), bits_(plan.operations.size()) {}

  Program build();

 private:
  const Operation& operation(int i) const { return known_.operation(i); }
  const Shape& shape(int value) const { return known_.shape(value); }
  int input(int i, const char* role = "x") const { return known_.input(i, role); }
  bool has_input(int i, const char* role) const { return known_.has_input(i, role); }

  // Memory (prepare.cpp). A map's step is known when all that is written into it is; what needs it waits in later_.
  Slot* new_slot();
  Place new_place(const Shape& of);
  void size(Slot& slot);
  static void set_numbers(Slot& slot, int64_t numbers);
  void spend(int64_t numbers);
  void set(int value, const Place& place);
  const Place& place(int value) const;
  bool may_overwrite(const Place& at, int first);
  Place in_place_of(int value, const Shape& of);

  // Tasks (prepare.cpp).
  template <class T>
  T* add(int rows = 1, bool by_rows = true) {
    auto made = std::make_unique<T>();
    T* const task = made.get();
    task->operation = current_;
    task->rows = rows;
    task->by_rows = by_rows;
    program_.tasks.push_back(std::move(made));
    return task;
  }
  static void reads(Task* task, const Place& place) { task->reads.push_back(place.slot); }
  static void gives(Task* task, const Place& place);
  static void costs(Task* task, double products, double bits) { task->cost += products / 50 + bits / 1000; }
  // The last thing of an operation that has a task of its own: where its value lies.
  template <class T>
  void gives_value(T* task, int i) {
    task->to = new_place(shape(i + 1));
    set(i + 1, task->to);
    gives(task, task->to);
  }
  void load_image();
  void give_result();
  void emit(int i);
  void emit_reference(int i);

  // Real-valued operations (build_real.cpp): each returns false if the kernels do not know this one.
  using Emitter = bool (Builder::*)(int);
  static const std::map<std::string, Emitter>& emitters();
  bool emit_conv(int i);
  bool emit_dense(int i, const Sliding& sliding);
  bool emit_grouped(int i, const Sliding& sliding);
  bool emit_linear(int i);
  bool emit_pointwise(int i);
  bool emit_elementwise(int i);
  bool emit_pool(int i);
  bool emit_context(int i);
  bool emit_pixel_mean(int i);
  bool emit_concat(int i);
  bool emit_slice(int i);
  bool emit_replicate(int i);
  bool emit_reshape(int i);
  bool emit_pad(int i);
  bool emit_add_map(int i);
  bool emit_upsample(int i);
  // The input of a window with its padding: a copy of `step` floats a pixel, or the map itself.
  struct Padded {
    Place place;
    int columns, rows;
    bool is_copy;
  };
  Padded padded_input(int i, const Sliding& sliding, int64_t step);
  PadTask* add_padded(int i, const int (&before)[2], const int (&behind)[2]);
  template <class T>
  void read_padded(T* task, const Padded& from, const Sliding& sliding);
  template <class T>
  void set_constants(T& conv, int i, int all) const;
  void add_pointwise(int i, Pointwise step, int value, const Place& other);
  Place add_pool(Pooling pooling, int value, const Shape& out);
  Place add_concat(const std::vector<Place>& from, const Shape& out);
  Place expanded(const Place& at, int channels);

  // Convolutions of bits (build_bits.cpp).
  void emit_unit(int i);
  void emit_low_bit(int i);
  bool emit_attention(int i);
  void write_bits(int maker);
  std::shared_ptr<BitMap> bit_map(int i);
  BitMap& begin_bits(int i);
  // Some channels of a map, whose bits begin at a dword.
  struct Channels {
    int first, count, first_dword;
    Place of(Place all) const {
      all.channel += first;
      all.shape.sizes[all.shape.rank == 4 ? 1 : 0] = count;
      return all;
    }
  };
  std::vector<Channels> parts_of(int i) const;
  BitsTask* add_bits(int i, const Place& from, int plane, int dword);
  void add_own_bits(int i);
  void add_levels(int i, int value, int plane);
  void add_levels_of(int i, int value, int plane, const Channels& part);
  Floats thresholds(int unit, int first, int count) const;
  Place given(int i, const char* role, int channels);
  Place shortcut_of(int i, const Shape& out, int& repeats);
  Place unit_output(int i, const Shape& computed, const Place& shortcut);
  void set_up(UnitTask* task, int i);
  void add_readers(UnitTask* task, int i);
  void add_terms(UnitTask* task, int i);
  void add_low_bit_terms(UnitTask* task, int i);
  Term low_bit_term(int i, const std::vector<Plane>& planes, const Classes& classes, int first_plane);

  const Analysis known_;
  int current_ = 0;                            // operation whose tasks are being made
  int64_t spent_ = 0;                          // bytes
  std::vector<Place> places_;                  // of values
  std::vector<std::shared_ptr<BitMap>> bits_;  // of operations that read bits
  std::map<const Slot*, std::vector<int>> values_in_;
  std::map<const Slot*, int64_t> pixels_;
  std::vector<std::function<void()>> later_;
  Program program_;
};

}  // namespace bcdzoo
