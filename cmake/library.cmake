# The library: everything but the program, as libtrimtab.a (trimtab), and as libtrimtab.so (trimtab-shared) too.
# trimtab::trimtab is the one that BUILD_SHARED_LIBS says. Both hold the kernels of every device that was built.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
# As pkg-config and find_package name them, too.
set(TT_NEEDS "jansson >= 2.14" "libpcre2-8 >= 10.40" libutf8proc libcrypto)
string(REPLACE " " "" TT_NEEDS_WITH_VERSIONS "${TT_NEEDS}")
pkg_check_modules(TRIMTAB_NEEDS REQUIRED IMPORTED_TARGET ${TT_NEEDS_WITH_VERSIONS})

file(GLOB_RECURSE TT_SOURCES CONFIGURE_DEPENDS base/*.c weights/*.c controller/*.c runtime/*.c)
list(FILTER TT_SOURCES EXCLUDE REGEX
  "/(runtime/(cli|page|serve)|controller/govern)/|/runtime/batch/[a-z]*_mpi.c$|/runtime/engine/rank_main.c$")
file(GLOB TT_KERNEL_SOURCES CONFIGURE_DEPENDS kernels/*.c kernels/cpu/*.c)
list(FILTER TT_KERNEL_SOURCES EXCLUDE REGEX "/kernels/no_cuda.c$")
list(APPEND TT_SOURCES ${TT_KERNEL_SOURCES})

# Looked up by each build, since a commit does not make CMake configure anew.
set(TT_GENERATED ${PROJECT_BINARY_DIR}/generated)
set(write_commit ${CMAKE_COMMAND} -D SOURCE=${PROJECT_SOURCE_DIR} -D OUT=${TT_GENERATED}/tt_commit.h
  -P ${PROJECT_SOURCE_DIR}/cmake/commit.cmake)
execute_process(COMMAND ${write_commit})
add_custom_target(trimtab-commit COMMAND ${write_commit} BYPRODUCTS ${TT_GENERATED}/tt_commit.h VERBATIM)

# Compiled once for both kinds of library: position-independent, and hidden but for what trimtab.h marks TT_API.
function(tt_add_objects name)
  add_library(${name} OBJECT ${ARGN})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/base
    ${PROJECT_SOURCE_DIR}/runtime)
  target_link_libraries(${name} PRIVATE Threads::Threads PkgConfig::TRIMTAB_NEEDS)
endfunction()
tt_add_objects(trimtab-objects ${TT_SOURCES})
add_dependencies(trimtab-objects trimtab-commit)
# For it alone, so that ccache knows the other objects whatever the folder of a build.
set_source_files_properties(runtime/engine/version.c PROPERTIES INCLUDE_DIRECTORIES ${TT_GENERATED})
set_source_files_properties(runtime/engine/rank_program.c PROPERTIES
  COMPILE_DEFINITIONS "TT_LIBEXEC=\"${CMAKE_INSTALL_FULL_LIBEXECDIR}\"")
include(${CMAKE_CURRENT_LIST_DIR}/bodies.cmake)
tt_body_options("")

if(TT_SANITIZE)
  # Kernel bodies are inlined whole; checks on each of their operations take minutes and gigabytes to compile. Their
  # memory accesses stay checked, of those for AVX-512 and VNNI in ci-full alone, since they take a
  # minute to compile and run only where the processor has them.
  file(GLOB TT_BODY_SOURCES CONFIGURE_DEPENDS kernels/cpu/body_*.c kernels/cpu/q8_*.c)
  set_property(SOURCE ${TT_BODY_SOURCES} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=undefined)
  if(NOT TT_TEST_ALL)
    list(FILTER TT_BODY_SOURCES INCLUDE REGEX "avx512|vnni")
    set_property(SOURCE ${TT_BODY_SOURCES} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize=all)
  endif()
endif()
if(TT_FUZZ)
  # The fuzzer follows what reads files; kernels read none.
  set(TT_FUZZED_SOURCES ${TT_SOURCES})
  list(FILTER TT_FUZZED_SOURCES EXCLUDE REGEX "/kernels/")
  set_property(SOURCE ${TT_FUZZED_SOURCES} APPEND PROPERTY COMPILE_OPTIONS -fsanitize=fuzzer-no-link)
endif()

# What defines tt_cuda_open, which kernels/device.c calls: the kernels, or kernels/no_cuda.c. Warnings of the host
# compiler's apply to the .c files; cudart is the static one, so that a machine without CUDA still runs it.
tt_add_objects(trimtab-no-cuda kernels/no_cuda.c)
set(TT_DEVICE_OBJECTS $<TARGET_OBJECTS:trimtab-no-cuda>)
set(TT_DEVICE_NEEDS)
if(TT_CUDA)
  file(GLOB TT_CUDA_KERNELS CONFIGURE_DEPENDS kernels/cuda/*.cu)
  file(GLOB TT_CUDA_SOURCES CONFIGURE_DEPENDS kernels/cuda/*.c)
  tt_cuda_compile(TT_CUDA_OBJECTS ${TT_CUDA_KERNELS})
  # Several targets take these objects: make would compile them for each, at the same time.
  add_custom_target(trimtab-cuda-kernels DEPENDS ${TT_CUDA_OBJECTS})
  tt_add_objects(trimtab-cuda-host ${TT_CUDA_SOURCES})
  target_include_directories(trimtab-cuda-host SYSTEM PRIVATE ${TT_CUDA_INCLUDE})
  target_compile_definitions(trimtab-cuda-host PRIVATE
    TT_CUDA_BUILT="${TT_CUDA_VERSION} for ${TT_CUDA_SAID}")
  set(TT_DEVICE_OBJECTS $<TARGET_OBJECTS:trimtab-cuda-host> ${TT_CUDA_OBJECTS})
  set(TT_DEVICE_NEEDS ${CMAKE_DL_LIBS} rt)
endif()

# A library of the objects of both: tt_add_library(NAME STATIC|SHARED).
function(tt_add_library name kind)
  add_library(${name} ${kind} $<TARGET_OBJECTS:trimtab-objects> ${TT_DEVICE_OBJECTS})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE C OUTPUT_NAME trimtab)
  if(TT_CUDA)
    add_dependencies(${name} trimtab-cuda-kernels)
  endif()
  target_include_directories(${name} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/trimtab>
    "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/base;${PROJECT_SOURCE_DIR}/runtime>")
  target_link_libraries(${name} PRIVATE Threads::Threads PkgConfig::TRIMTAB_NEEDS ${TT_DEVICE_NEEDS} m)
endfunction()

if(NOT TT_CUDA)
  set(TT_CUDART "") # a cached one, of when the folder was configured with CUDA
endif()
tt_add_library(trimtab STATIC)
if(TT_CUDA)
  # With CUDA's runtime in it: a program that links it needs no CUDA of its own.
  set(script ${PROJECT_BINARY_DIR}/trimtab.mri)
  file(GENERATE OUTPUT ${script} CONTENT "OPEN $<TARGET_FILE:trimtab>\nADDLIB ${TT_CUDART}\nSAVE\nEND\n")
  add_custom_command(TARGET trimtab POST_BUILD COMMAND ${CMAKE_AR} -M <${script})
endif()
set_target_properties(trimtab PROPERTIES EXPORT_NAME static)
add_library(trimtab::static ALIAS trimtab)
set(TT_MAIN trimtab)
if(TT_SHARED)
  tt_add_library(trimtab-shared SHARED)
  set_target_properties(trimtab-shared PROPERTIES EXPORT_NAME shared VERSION ${PROJECT_VERSION} SOVERSION 0
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/runtime/trimtab.map)
  target_link_libraries(trimtab-shared PRIVATE ${TT_CUDART})
  target_link_options(trimtab-shared PRIVATE LINKER:--version-script=${PROJECT_SOURCE_DIR}/runtime/trimtab.map
    LINKER:--no-undefined)
  add_library(trimtab::shared ALIAS trimtab-shared)
  if(BUILD_SHARED_LIBS)
    set(TT_MAIN trimtab-shared)
  endif()
endif()
add_library(trimtab::trimtab ALIAS ${TT_MAIN})

# For the programs and the tests, which call what is hidden and choose their device: trimtab-core with trimtab-device
# (what this build has), trimtab-no-cuda or, in tests/, the emulator.
add_library(trimtab-core STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:trimtab-objects>)
set_target_properties(trimtab-core PROPERTIES LINKER_LANGUAGE C)
target_include_directories(trimtab-core INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/base
  ${PROJECT_SOURCE_DIR}/runtime)
target_link_libraries(trimtab-core PRIVATE Threads::Threads PkgConfig::TRIMTAB_NEEDS m)
add_library(trimtab-device STATIC EXCLUDE_FROM_ALL ${TT_DEVICE_OBJECTS})
set_target_properties(trimtab-device PROPERTIES LINKER_LANGUAGE C)
target_link_libraries(trimtab-device PUBLIC trimtab-core ${TT_CUDART} ${TT_DEVICE_NEEDS} Threads::Threads)
# The archive is read before anything has asked for it.
target_link_options(trimtab-device INTERFACE LINKER:--undefined=tt_cuda_open)
if(TT_CUDA)
  add_dependencies(trimtab-device trimtab-cuda-kernels)
  target_include_directories(trimtab-device SYSTEM PUBLIC ${TT_CUDA_INCLUDE})
endif()
