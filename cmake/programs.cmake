# The program, the harness of every benchmark, which it has too, and the benchmarks.
include(cmake/serve.cmake)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
file(GLOB TT_HARNESS_SOURCES CONFIGURE_DEPENDS bench/harness/*.c)
add_library(trimtab-harness STATIC ${TT_HARNESS_SOURCES})
add_dependencies(trimtab-harness trimtab-commit)
target_compile_definitions(trimtab-harness PRIVATE TT_CFLAGS="${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_RELEASE}")
target_include_directories(trimtab-harness PUBLIC ${PROJECT_SOURCE_DIR})
set_source_files_properties(bench/harness/machine.c PROPERTIES INCLUDE_DIRECTORIES ${TT_GENERATED})
target_link_libraries(trimtab-harness PUBLIC trimtab-core PkgConfig::JANSSON m)

file(GLOB TT_CLI_SOURCES CONFIGURE_DEPENDS runtime/page/*.c runtime/cli/*.c)
add_executable(trimtab-cli ${TT_CLI_SOURCES})
set_target_properties(trimtab-cli PROPERTIES OUTPUT_NAME trimtab)
target_link_libraries(trimtab-cli PRIVATE trimtab-serve trimtab-device trimtab-harness trimtab-core
  PkgConfig::JANSSON m)

add_executable(trimtab-bench bench/bench_engine.c)
target_link_libraries(trimtab-bench PRIVATE trimtab-device trimtab-harness)
add_executable(trimtab-batched bench/peers/batched.c)
target_link_libraries(trimtab-batched PRIVATE trimtab-harness trimtab-no-cuda)
add_executable(trimtab-bench-scheduler bench/bench_scheduler.c)
target_link_libraries(trimtab-bench-scheduler PRIVATE trimtab-harness trimtab-no-cuda)
