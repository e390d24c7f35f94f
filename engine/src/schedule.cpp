#include "schedule.h"

#include <algorithm>
#include <limits>
#include <map>

namespace bcdzoo {
namespace {

// Maps of more than this leave the second cache before they are read again: tasks on them run band by band.
constexpr int64_t kLargeMap = 512 << 10;
constexpr int64_t kBandBytes = 256 << 10;
constexpr int64_t kRatio = 8;              // of the largest to the smallest map of bands: of fewer rows they get too thin
constexpr int64_t kMostBytes = int64_t{1} << 32;  // of the arena
constexpr int64_t kLightBytes = 16 << 10;  // of a band of tasks that are light

bool is_large(const Task& task) { return task.by_rows && task.row_bytes * task.rows > kLargeMap; }

bool writes(const Task& task, const Slot* slot) { return std::find(task.writes.begin(), task.writes.end(), slot) != task.writes.end(); }

// Tasks [begin, end) that run band by band, or one task.
struct Segment {
  int begin, end;
  int64_t band_bytes;  // of the largest map's rows in a band
};

std::vector<Segment> segments_of(const Program& program) {
  std::vector<Segment> found;
  const int count = static_cast<int>(program.tasks.size());
  const auto light_end = [&](int begin) {
    int end = begin;
    while (end < count && program.tasks[end]->is_light && program.tasks[end]->rows == program.tasks[begin]->rows) ++end;
    return end;
  };
  const auto large_end = [&](int begin) {
    int end = begin;
    int64_t largest = 0;
    for (int i = begin; i < count; ++i) {
      const Task& task = *program.tasks[i];
      if (task.first) continue;
      const int64_t bytes = task.row_bytes * task.rows;
      if (!is_large(task) || bytes * kRatio < largest) break;
      largest = std::max(largest, bytes);
      end = i + 1;
    }
    return end;
  };
  for (int begin = 0; begin < count;) {
    const int large = large_end(begin), light = light_end(begin);
    const bool is_banded = large > begin + 1 || is_large(*program.tasks[begin]);
    const int end = std::max({begin + 1, large, light});
    found.push_back({begin, end, is_banded ? kBandBytes : light > begin ? kLightBytes : std::numeric_limits<int64_t>::max()});
    begin = end;
  }
  return found;
}

class Bands {
 public:
  Bands(const Program& program, Segment segment) : program_(program), segment_(segment), done_(segment.end - segment.begin) {}

  // The steps of a segment, in their sequence.
  std::vector<Step> steps() {
    int64_t largest = 0;
    std::vector<Step> found;
    for (int i = segment_.begin; i < segment_.end; ++i) {
      largest = std::max(largest, task(i).row_bytes * task(i).rows);
      if (task(i).first) add(found, i, task(i).rows);
    }
    const int bands = static_cast<int>(std::max<int64_t>(1, largest / segment_.band_bytes + 1));
    for (int band = 1; band <= bands; ++band) {
      const std::vector<int> needed = rows_for(band, bands);
      for (int i = segment_.begin; i < segment_.end; ++i) add(found, i, needed[i - segment_.begin]);
    }
    return found;
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

// Maps that a segment alone uses need room for a few rows at a time: they become rings, which stay in the cache.
class Rings {
 public:
  Rings(Program& program, Segment segment) : program_(program), segment_(segment) {}

  // Makes rings of the segment's maps, and divides its steps where a ring begins again.
  std::vector<Step> apply(const std::vector<Step>& steps) {
    for (Slot& slot : program_.slots)
      if (slot.rows && is_own(slot)) make(slot, steps);
    std::vector<Step> divided;
    for (const Step& step : steps)
      for (int begin = step.begin, end; begin < step.end; begin = end) {
        end = std::min(step.end, lap_end(*step.task, begin));
        divided.push_back({step.task, begin, end});
      }
    return divided;
  }

 private:
  // Whether tasks of this segment alone, and such as can, use a slot.
  bool is_own(const Slot& slot) const {
    bool is_used = false;
    for (int i = 0; i < static_cast<int>(program_.tasks.size()); ++i) {
      const Task& task = *program_.tasks[i];
      const bool writes_it = writes(task, &slot);
      for (size_t k = 0; k < task.reads.size(); ++k)
        if (task.reads[k] == &slot && (i < segment_.begin || i >= segment_.end || !task.by_rows || task.scale(static_cast<int>(k)) < 0)) return false;
      if (writes_it && (i < segment_.begin || i >= segment_.end || !task.by_rows)) return false;
      is_used = is_used || writes_it;
    }
    return is_used;
  }

  // Rows from the top of a slot that a task does not need any more when it has done some of its own.
  static int released(const Task& task, int read, int done, int rows) {
    if (done >= task.rows) return rows;
    int released = 0;
    while (released < rows && task.frees(read, released + 1) <= done) ++released;
    return released;
  }

  void make(Slot& slot, const std::vector<Step>& steps) const {
    std::map<const Task*, int> done;
    int most = 0, unit = 1;
    for (const Step& step : steps) {
      if (writes(*step.task, &slot)) {
        int lowest = slot.rows;
        for (int i = segment_.begin; i < segment_.end; ++i) {
          const Task& reader = *program_.tasks[i];
          for (size_t k = 0; k < reader.reads.size(); ++k)
            if (reader.reads[k] == &slot) {
              lowest = std::min(lowest, released(reader, static_cast<int>(k), done[&reader], slot.rows));
              unit = std::max(unit, reader.scale(static_cast<int>(k)));
            }
        }
        most = std::max(most, step.end - std::min(lowest, step.begin));
      }
      done[step.task] = step.end;
    }
    const int ring = round_up(most, unit == 1 ? 1 : 2 * unit);
    if (ring >= slot.rows || (unit > 2)) return;
    slot.ring = ring;
    slot.bytes = slot.bytes / slot.rows * ring + kSlack;
  }

  // The first row of a task at which a ring of its begins again.
  static int lap_end(const Task& task, int begin) {
    int end = task.rows;
    const auto consider = [&](const Slot& slot, int scale) {
      if (slot.ring && scale > 0) end = std::min(end, (begin * scale / slot.ring + 1) * slot.ring / scale);
    };
    for (size_t k = 0; k < task.reads.size(); ++k) consider(*task.reads[k], task.scale(static_cast<int>(k)));
    for (const Slot* slot : task.writes) consider(*slot, 1);
    return end;
  }

  static constexpr int kSlack = 512;  // bytes: vectors may reach behind the last pixel
  Program& program_;
  const Segment segment_;
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
  Schedule made;
  for (const Segment& segment : segments) {
    const std::vector<Step> steps = Rings(program, segment).apply(Bands(program, segment).steps());
    made.steps.insert(made.steps.end(), steps.begin(), steps.end());
  }
  find_lives(program, segments);
  made.arena_bytes = place(program);
  require(made.arena_bytes <= kMostBytes, "an image would need too much memory");
  return made;
}

}  // namespace bcdzoo
