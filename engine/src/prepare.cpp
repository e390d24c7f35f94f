#include "prepare.h"

#include <algorithm>

#include "builder.h"

namespace bcdzoo {
namespace {

constexpr int64_t kSlack = 256;  // bytes behind a slot, for vectors that read and write whole panels

}  // namespace

Program Builder::build() {
  load_image();
  for (int i = 0; i < known_.count(); ++i) {
    current_ = i;
    emit(i);
  }
  give_result();
  for (Slot& slot : program_.slots)
    if (!slot.bytes) size(slot);
  for (const auto& finish : later_) finish();
  return std::move(program_);
}

Slot* Builder::new_slot() {
  program_.slots.emplace_back();
  return &program_.slots.back();
}

Place Builder::new_place(const Shape& of) {
  Slot* const slot = new_slot();
  slot->channels = of.channels();
  pixels_[slot] = int64_t{of.levels()} * of.height() * of.width();
  if (of.rank == 3) {
    slot->rows = of.height();
    slot->columns = of.width();
  }
  return {slot, 0, of};
}

void Builder::size(Slot& slot) {
  slot.step = padded(std::max(slot.channels, slot.room));
  set_numbers(slot, pixels_[&slot] * slot.step);
}

void Builder::set_numbers(Slot& slot, int64_t numbers) {
  require(4 * numbers <= kMostBytes, "a map would need too much memory");
  slot.bytes = (4 * numbers + kSlack + 63) / 64 * 64;
}

// Counts numbers of 4 bytes that are about to be made: of a small file there must not be any number.
void Builder::spend(int64_t numbers) {
  spent_ += 4 * numbers;
  require(spent_ <= kMostBytes, "the network would need too much memory");
}

void Builder::set(int value, const Place& place) {
  places_[value] = place;
  values_in_[place.slot].push_back(value);
}

const Place& Builder::place(int value) const {
  require(places_[value].slot != nullptr, "a value has no floats");
  return places_[value];
}

// Whether nobody needs a place's channels from one on after the current operation.
bool Builder::may_overwrite(const Place& at, int first) {
  std::vector<int>& values = values_in_[at.slot];
  const auto is_dead = [&](int value) { return known_.last_use(value) <= current_; };
  values.erase(std::remove_if(values.begin(), values.end(), is_dead), values.end());  // long chains must not pile up
  return std::all_of(values.begin(), values.end(),
                     [&](int value) { return places_[value].channel + places_[value].shape.channels() <= first; });
}

// A place for a result that is computed from a value pixel by pixel: the same, if nobody needs that any more.
Place Builder::in_place_of(int value, const Shape& of) {
  const Place& at = place(value);
  const bool alone = at.channel == 0 && at.slot->channels == of.channels() && at.shape == of;
  return alone && may_overwrite(at, 0) ? at : new_place(of);
}

void Builder::gives(Task* task, const Place& place) {
  task->writes.push_back(place.slot);
  task->row_bytes = 4 * padded(place.shape.channels()) * place.shape.width();
  task->cost += 0.1 * static_cast<double>(task->row_bytes * task->rows);
}

void Builder::load_image() {
  if (known_.wants_image()) {
    ImageTask* const task = add<ImageTask>(shape(0).height());
    gives_value(task, -1);
  }
  write_bits(-1);
}

void Builder::give_result() {
  current_ = known_.count() - 1;
  ResultTask* const task = add<ResultTask>(1, false);
  task->from = place(known_.count());
  reads(task, task->from);
}

void Builder::emit(int i) {
  if (known_.is_unit(i)) {
    emit_unit(i);
  } else if (known_.is_low_bit(i)) {
    emit_low_bit(i);
  } else if (known_.wants_floats(i + 1)) {
    const auto known = emitters().find(operation(i).kind);
    if (known == emitters().end() || !(this->*known->second)(i)) emit_reference(i);
  }
  write_bits(i);
}

void Builder::emit_reference(int i) {
  ReferenceTask* const task = add<ReferenceTask>(1, false);
  task->source = &operation(i);
  for (const auto& [role, value] : operation(i).inputs) {
    task->from.push_back(place(value));
    reads(task, task->from.back());
  }
  gives_value(task, i);
}

Program prepare(const Plan& plan) { return Builder(plan).build(); }

}  // namespace bcdzoo
