# The Python package bcdzoo_engine, for scikit-build: its module alone; the rest is copied as it is.
find_package(Python 3.10 COMPONENTS Interpreter Development.Module REQUIRED)
execute_process(COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir OUTPUT_STRIP_TRAILING_WHITESPACE OUTPUT_VARIABLE nanobind_ROOT)
find_package(nanobind CONFIG REQUIRED)
# A domain of its own: bcdzoo, which has the same classes, may be imported too.
nanobind_add_module(_engine NB_STATIC NB_DOMAIN bcdzoo_engine NOMINSIZE python/module.cpp ${engine_sources})
target_include_directories(_engine PRIVATE src)
target_compile_options(_engine PRIVATE ${engine_options})
target_link_libraries(_engine PRIVATE Threads::Threads)
install(TARGETS _engine LIBRARY DESTINATION bcdzoo_engine)
