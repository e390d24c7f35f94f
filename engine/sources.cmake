# The engine's sources and how they are compiled, for whoever builds them into something.
set(plan_sources operations.cpp plan.cpp plan_file.cpp reference.cpp sha256.cpp)
set(network_sources
  analysis.cpp binary_tasks.cpp build_bits.cpp build_real.cpp instructions.cpp layouts.cpp loaded.cpp network.cpp pixels.cpp
  prepare.cpp real_tasks.cpp schedule.cpp)
# Where there are no threads, single_thread.h stands in for them.
option(BCDZOO_SINGLE_THREAD "Build the engine without threads" OFF)
if(BCDZOO_SINGLE_THREAD)
  add_compile_definitions(BCDZOO_SINGLE_THREAD)
else()
  list(APPEND network_sources threads.cpp)
endif()
set(kernel_sources kernels/portable.cpp)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  list(APPEND kernel_sources kernels/avx2.cpp kernels/avx512.cpp)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|^arm")
  list(APPEND kernel_sources kernels/neon.cpp)
elseif(EMSCRIPTEN)
  set(kernel_sources kernels/wasm.cpp)  # a module with vectors runs nowhere without them
endif()
foreach(list plan_sources network_sources kernel_sources)
  list(TRANSFORM ${list} PREPEND ${CMAKE_CURRENT_LIST_DIR}/src/)
endforeach()
set(engine_sources ${plan_sources} ${network_sources} ${kernel_sources})
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/src/kernels/avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_SIZEOF_VOID_P EQUAL 4)
  set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/src/kernels/neon.cpp PROPERTIES COMPILE_OPTIONS "-mfpu=neon-vfpv4")
endif()
# GCC tunes for any processor otherwise, and keeps pointers in vector registers.
set_source_files_properties(
  ${CMAKE_CURRENT_LIST_DIR}/src/kernels/avx512.cpp
  PROPERTIES COMPILE_OPTIONS "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vpopcntdq;-mavx2;-mfma;-mprefer-vector-width=512;-mtune=skylake-avx512")
# Products and sums are fused where the code says so and nowhere else.
set(engine_options $<IF:$<CONFIG:Debug>,-O1,-O3> -ffp-contract=off)  # without -O instruction sets would share symbols
