# The engine's sources and how they are compiled, for whoever builds them into something.
set(engine_sources binary_tasks.cpp instructions.cpp network.cpp operations.cpp plan.cpp plan_file.cpp prepare.cpp real_tasks.cpp
                   reference.cpp schedule.cpp sha256.cpp threads.cpp kernels/portable.cpp)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  list(APPEND engine_sources kernels/avx2.cpp kernels/avx512.cpp)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  list(APPEND engine_sources kernels/neon.cpp)
endif()
list(TRANSFORM engine_sources PREPEND ${CMAKE_CURRENT_LIST_DIR}/src/)
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/src/kernels/avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
set_source_files_properties(
  ${CMAKE_CURRENT_LIST_DIR}/src/kernels/avx512.cpp
  PROPERTIES COMPILE_OPTIONS "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vpopcntdq;-mavx2;-mfma;-mprefer-vector-width=512")
# Products and sums are fused where the code says so and nowhere else.
set(engine_options -O3 -ffp-contract=off)
