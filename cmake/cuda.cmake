# Finds nvcc and compiles CUDA sources with it: TT_CUDA is then ON or OFF. Not enable_language(CUDA), which fails where
# nvcc comes from PyPI and its libraries are in lib, and keeps no file of what ptxas says.
set(TT_CUDA AUTO CACHE STRING "CUDA kernels: AUTO (where nvcc is found), ON or OFF")
set_property(CACHE TT_CUDA PROPERTY STRINGS AUTO ON OFF)
set(TT_CUDA_FLAGS -std=c++17 -O3 -fmad=false -lineinfo -Xptxas -v
  -Xcompiler=-ffp-contract=off,-fno-exceptions,-fno-threadsafe-statics,-fPIC,-fvisibility=hidden)
if(TT_WERROR)
  list(APPEND TT_CUDA_FLAGS -Werror all-warnings)
endif()
option(TT_CUDA_SM80 "Compile for sm_80, and as PTX for what comes after, beside sm_90a" ON)
set(TT_CUDA_TARGETS -gencode arch=compute_90a,code=sm_90a)
set(TT_CUDA_SAID "sm_90a")
if(TT_CUDA_SM80)
  list(PREPEND TT_CUDA_TARGETS -gencode "arch=compute_80,code=[sm_80,compute_80]")
  set(TT_CUDA_SAID "sm_80, sm_90a and, as PTX, what comes after sm_80")
endif()

# TT_NVCC: nvcc, of the machine or from PyPI.
function(tt_cuda_find_nvcc)
  file(GLOB wheels ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/nvidia/cu*/bin)
  find_program(TT_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin ${wheels} PATHS /usr/local/cuda/bin)
endfunction()

# Why there can be no CUDA kernels, or "".
function(tt_cuda_look problem)
  tt_cuda_find_nvcc()
  if(NOT TT_NVCC)
    set(${problem} "there is no nvcc" PARENT_SCOPE)
    return()
  endif()
  # A trial, since nvcc may be older than sm_90a (CUDA 12.0) or not get along with the host's compiler; its talk says
  # where the toolkit is.
  set(trial ${PROJECT_BINARY_DIR}/cuda/trial.cu)
  file(WRITE ${trial} "__global__ void trial(float *x)\n{\n\t*x = 1;\n}\n")
  execute_process(COMMAND ${TT_NVCC} -std=c++17 ${TT_CUDA_TARGETS} -c ${trial} -o ${trial}.o RESULT_VARIABLE status
    OUTPUT_QUIET ERROR_QUIET)
  if(status)
    set(see "${TT_NVCC} -std=c++17 -arch sm_90a -c ${trial}")
    set(${problem} "${TT_NVCC} does not compile for sm_80 and sm_90a (see: ${see})" PARENT_SCOPE)
    return()
  endif()
  # A quarter of the size, where nvcc can (CUDA 12.8).
  execute_process(COMMAND ${TT_NVCC} -compress-mode=size -c ${trial} -o ${trial}.o RESULT_VARIABLE status
    OUTPUT_QUIET ERROR_QUIET)
  if(NOT status)
    set(TT_CUDA_COMPRESS -compress-mode=size PARENT_SCOPE)
  endif()
  execute_process(COMMAND ${TT_NVCC} --dryrun -c ${trial} -o ${trial}.o ERROR_VARIABLE talk OUTPUT_QUIET)
  string(REGEX MATCH "TOP=([^\n]*)" unused "${talk}")
  set(top "${CMAKE_MATCH_1}")
  string(REGEX MATCHALL "\"-[IL][^\"]+\"" folders "${talk}")
  list(TRANSFORM folders REPLACE "^\"-[IL]([^\"]+)\"$" "\\1")
  find_path(TT_CUDA_INCLUDE cuda_runtime.h HINTS ${folders} ${top}/include)
  find_library(TT_CUDART libcudart_static.a HINTS ${folders} ${top}/lib64 ${top}/lib)
  if(NOT TT_CUDA_INCLUDE OR NOT TT_CUDART)
    set(${problem} "cuda_runtime.h or libcudart_static.a is missing beside ${TT_NVCC}" PARENT_SCOPE)
    return()
  endif()
  execute_process(COMMAND ${TT_NVCC} --version OUTPUT_VARIABLE talk ERROR_QUIET)
  string(REGEX MATCH " V([0-9]+\\.[0-9]+)" unused "${talk}")
  set(TT_CUDA_VERSION "${CMAKE_MATCH_1}" PARENT_SCOPE)
  set(${problem} "" PARENT_SCOPE)
endfunction()

if(TT_CUDA STREQUAL "AUTO" AND TT_SANITIZE)
  set(tt_cuda_problem "nvcc's objects take no sanitizers")
elseif(NOT TT_CUDA)
  set(tt_cuda_problem "TT_CUDA is off")
else()
  tt_cuda_look(tt_cuda_problem)
endif()
if(tt_cuda_problem AND TT_CUDA AND NOT TT_CUDA STREQUAL "AUTO")
  message(FATAL_ERROR "TT_CUDA is ${TT_CUDA}, but ${tt_cuda_problem}")
elseif(tt_cuda_problem)
  set(TT_CUDA OFF)
  message(STATUS "Backends: cpu (${tt_cuda_problem})")
else()
  set(TT_CUDA ON)
  message(STATUS "Backends: cpu, cuda (${TT_NVCC})")
endif()

# Objects for sm_80 and sm_90a, and PTX for what comes after: tt_cuda_compile(OBJECTS_VARIABLE SOURCE... [FLAGS
# FLAG...]).
function(tt_cuda_compile objects)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" FLAGS)
  set(all)
  foreach(source ${arg_UNPARSED_ARGUMENTS})
    file(REAL_PATH ${source} path BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${path})
    set(object ${PROJECT_BINARY_DIR}/cuda/${name}.o)
    add_custom_command(OUTPUT ${object} BYPRODUCTS ${object}.log DEPFILE ${object}.d
      DEPENDS ${path} ${PROJECT_SOURCE_DIR}/scripts/gpu/compile_cuda.sh
      COMMAND ${PROJECT_SOURCE_DIR}/scripts/gpu/compile_cuda.sh ${object} ${name}
      ${CMAKE_C_COMPILER_LAUNCHER} ${TT_NVCC} ${TT_CUDA_FLAGS} ${TT_CUDA_TARGETS} ${TT_CUDA_COMPRESS} -I. -Ibase
      ${arg_FLAGS}
      COMMENT "nvcc ${name}" VERBATIM)
    list(APPEND all ${object})
  endforeach()
  set_source_files_properties(${all} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  set(${objects} ${all} PARENT_SCOPE)
endfunction()

# PTX for one target, as the interpreter of kernels/emu/ptx takes it: tt_cuda_ptx(FILES_VARIABLE TARGET SOURCE...). The
# flags are those of the objects.
function(tt_cuda_ptx files target)
  set(all)
  foreach(source ${ARGN})
    file(REAL_PATH ${source} path BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${path})
    get_filename_component(stem ${source} NAME_WE)
    set(text ${PROJECT_BINARY_DIR}/ptx/${target}/${stem}.ptx)
    add_custom_command(OUTPUT ${text} BYPRODUCTS ${text}.log DEPFILE ${text}.d
      DEPENDS ${path} ${PROJECT_SOURCE_DIR}/scripts/gpu/compile_cuda.sh
      COMMAND ${PROJECT_SOURCE_DIR}/scripts/gpu/compile_cuda.sh ${text} ${name}
      ${CMAKE_C_COMPILER_LAUNCHER} ${TT_NVCC} ${TT_CUDA_FLAGS} -arch=${target} -I. -Ibase
      COMMENT "nvcc ${name} (${target})" VERBATIM)
    list(APPEND all ${text})
  endforeach()
  set(${files} ${all} PARENT_SCOPE)
endfunction()
