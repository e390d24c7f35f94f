#include "schedule.h"

#include <algorithm>

namespace bcdzoo {
namespace {

// Maps of more than this leave the second cache before they are read again: tasks on them run band by band.
constexpr int64_t kLargeMap = 256 << 10;
constexpr int64_t kMostBytes = int64_t{1} << 32;  // of the arena
constexpr int64_t kBandBytes = 192 << 10;  // of the largest map's rows in a band

bool is_large(const Task& task) { return task.by_rows && task.row_bytes * task.rows > kLargeMap; }

bool writes(const Task& task, const Slot* slot) { return std::find(task.writes.begin(), task.writes.end(), slot) != task.writes.end(); }

// Tasks [begin, end) that run band by band, or one task.
struct Segment {
  int begin, end;
};

std::vector<Segment> segments_of(const Program& program) {
  std::vector<Segment> found;
  const int count = static_cast<int>(program.tasks.size());
  for (int begin = 0; begin < count;) {
    int end = begin, last = begin;
    while (end < count && (is_large(*program.tasks[end]) || program.tasks[end]->first)) {
      if (!program.tasks[end]->first) last = end + 1;
      ++end;
    }
    end = std::max(last, begin + 1);
    found.push_back({begin, end});
    begin = end;
  }
  return found;
}

class Bands {
 public:
  Bands(const Program& program, Segment segment) : program_(program), segment_(segment), done_(segment.end - segment.begin) {}

  void append_to(std::vector<Step>& steps) {
    int64_t largest = 0;
    for (int i = segment_.begin; i < segment_.end; ++i) {
      largest = std::max(largest, task(i).row_bytes * task(i).rows);
      if (task(i).first) add(steps, i, task(i).rows);
    }
    const int bands = static_cast<int>(std::max<int64_t>(1, (largest + kBandBytes - 1) / kBandBytes));
    for (int band = 1; band <= bands; ++band) {
      const std::vector<int> needed = rows_for(band, bands);
      for (int i = segment_.begin; i < segment_.end; ++i) add(steps, i, needed[i - segment_.begin]);
    }
  }

 private:
  const Task& task(int index) const { return *program_.tasks[index]; }

  void add(std::vector<Step>& steps, int index, int rows) {
    int& done = done_[index - segment_.begin];
    if (rows > done) steps.push_back({&task(index), std::exchange(done, rows), rows});
  }

  // How many rows of every task a band needs: its own share of each, and what others read of it.
  std::vector<int> rows_for(int band, int bands) const {
    std::vector<int> needed = done_;
    const auto raise = [&](int index, int rows) {
      int& mine = needed[index - segment_.begin];
      mine = std::max(mine, std::min(rows, task(index).rows));
    };
    for (int i = segment_.end - 1; i >= segment_.begin; --i) {
      raise(i, static_cast<int>(int64_t{task(i).rows} * band / bands));
      const int rows = needed[i - segment_.begin];
      if (rows == 0) continue;
      for (int before = segment_.begin; before < i; ++before) {
        for (size_t k = 0; k < task(i).reads.size(); ++k)
          if (writes(task(before), task(i).reads[k])) raise(before, task(i).needs(static_cast<int>(k), rows));
        for (size_t k = 0; k < task(before).reads.size(); ++k)  // what it overwrites must have been read
          if (writes(task(i), task(before).reads[k])) raise(before, task(before).frees(static_cast<int>(k), rows));
      }
    }
    return needed;
  }

  const Program& program_;
  const Segment segment_;
  std::vector<int> done_;
};

// Slots live from their first task to their last one, and all segments that these are in.
void find_lives(Program& program, const std::vector<Segment>& segments) {
  for (const Segment& segment : segments)
    for (int i = segment.begin; i < segment.end; ++i) {
      const Task& task = *program.tasks[i];
      for (const auto* slots : {&task.reads, &task.writes})
        for (Slot* slot : *slots) {
          if (slot->first < 0) slot->first = segment.begin;
          slot->last = std::max(slot->last, segment.end - 1);
        }
    }
}

// Gives every slot the lowest place that is free during its life, the largest slots first.
int64_t place(Program& program) {
  std::vector<Slot*> order;
  for (Slot& slot : program.slots)
    if (slot.first >= 0) order.push_back(&slot);
  std::stable_sort(order.begin(), order.end(), [](const Slot* a, const Slot* b) { return a->bytes > b->bytes; });
  std::vector<Slot*> placed;  // by offset
  int64_t end = 0;
  for (Slot* slot : order) {
    int64_t offset = 0;
    for (const Slot* other : placed) {
      if (other->first > slot->last || other->last < slot->first) continue;
      if (offset + slot->bytes <= other->offset) break;
      offset = std::max(offset, other->offset + other->bytes);
    }
    slot->offset = offset;
    placed.insert(std::upper_bound(placed.begin(), placed.end(), slot, [](const Slot* a, const Slot* b) { return a->offset < b->offset; }), slot);
    end = std::max(end, offset + slot->bytes);
  }
  return end;
}

}  // namespace

Schedule schedule(Program& program) {
  const std::vector<Segment> segments = segments_of(program);
  find_lives(program, segments);
  Schedule made;
  made.arena_bytes = place(program);
  require(made.arena_bytes <= kMostBytes, "an image would need too much memory");
  for (const Segment& segment : segments) Bands(program, segment).append_to(made.steps);
  return made;
}

}  // namespace bcdzoo
