# The suites of the emulator once more, on the PTX that nvcc writes (kernels/emu/ptx): what is red here and green there
# is a fault of the compiled kernels. Without nvcc there is one test, which says so and is skipped.
set(TT_PTX AUTO CACHE STRING "Suites on nvcc's PTX: AUTO (where CUDA 13 is built with), ON or OFF")
option(TT_PTX_ALL "All of them, for both targets, which takes minutes, whatever TT_CUDA is" OFF)
tt_cuda_find_nvcc()
# The PTX of another nvcc may have instructions that the interpreter does not know.
if(NOT TT_PTX OR TT_SANITIZE OR NOT TT_NVCC OR (TT_PTX STREQUAL "AUTO" AND NOT TT_PTX_ALL AND
   (NOT TT_CUDA OR NOT TT_CUDA_VERSION MATCHES "^13\\.")))
  if(TT_PTX_ALL OR (TT_PTX AND NOT TT_PTX STREQUAL "AUTO"))
    message(FATAL_ERROR "suites on PTX are asked for, but there is no nvcc, or a sanitizer")
  endif()
  add_test(NAME ptx COMMAND ${CMAKE_COMMAND} -E echo "skipped: built without nvcc's PTX")
  set_tests_properties(ptx PROPERTIES SKIP_REGULAR_EXPRESSION "^skipped")
  return()
endif()

set(MODE_compute_80 ptx80)
set(MODE_compute_90a ptx)
set(PTX_TARGETS compute_90a)
if(TT_PTX_ALL)
  list(APPEND PTX_TARGETS compute_80)
endif()
file(GLOB PTX_KERNELS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/cuda/*.cu)
foreach(target ${PTX_TARGETS})
  tt_cuda_ptx(PTX_FILES ${target} ${PTX_KERNELS} ../gpu/primitives.cu)
  add_custom_target(ptx-${target} ALL DEPENDS ${PTX_FILES})
  # Each primitive both ways.
  set(mode ${MODE_${target}})
  add_test(NAME ${mode}_primitives COMMAND primitives-emu ${CMAKE_CURRENT_BINARY_DIR}/primitives.bin)
  set_tests_properties(${mode}_primitives PROPERTIES FIXTURES_REQUIRED primitives ENVIRONMENT TT_EMU=${mode})
endforeach()

# Edited PTX, which must turn suites red.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_test(NAME ptx_faults COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/test_ptx_faults.py
  ${PROJECT_BINARY_DIR}/ptx/compute_90a ${CMAKE_CURRENT_BINARY_DIR} ${CMAKE_CURRENT_BINARY_DIR}/primitives.bin)
set_tests_properties(ptx_faults PROPERTIES FIXTURES_REQUIRED primitives)

# Some seconds each; the others, on both targets and with whole models, are one test in ci-full. A dependent launch is
# what a step of the engine has on sm_90, so its suite is for that alone.
foreach(suite attention place pool product product_deep product_steer quants)
  add_test(NAME ptx_${suite} COMMAND test_emu_${suite} --jobs 2)
  set_tests_properties(ptx_${suite} PROPERTIES ENVIRONMENT TT_EMU=ptx)
endforeach()
if(NOT TT_PTX_ALL)
  return()
endif()
foreach(target ${PTX_TARGETS})
  set(programs $<TARGET_FILE:primitives-emu> ${CMAKE_CURRENT_BINARY_DIR}/primitives.bin)
  foreach(suite place pool quants product product_deep product_k1424 product_k1440 product_steer attention
    product_strict control sample product_cluster product_gemma small_attention small_product small_sample
    quants_engine)
    list(APPEND programs -- $<TARGET_FILE:test_emu_${suite}> --jobs 2)
  endforeach()
  # The engine's suite makes the weights of dummy models, and asks for dependent launches; what applies a product of
  # cuBLASLt runs with --fast. Clusters are of compute_90a. So are ranks here, which have kernels of their own.
  set(but --but dummy_kernel --but product_apply --but product_cluster --but agree_kernel --but steer_row_kernel<2>
    --but steer_row_kernel<3> --but steer_row_kernel<4>)
  if(target STREQUAL "compute_90a")
    list(APPEND programs -- $<TARGET_FILE:test_emu_engine> --jobs 2)
    list(APPEND programs -- $<TARGET_FILE:test_emu_ranks> --jobs 2 --filter
      "ranks/@(captures*|dummies*|gemma*)")
    set(but)
  endif()
  set(mode ${MODE_${target}})
  add_test(NAME ${mode}_all COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/ptx_table.py ${mode}
    ${PROJECT_BINARY_DIR}/ptx/${target} ${but} ${programs})
  set_tests_properties(${mode}_all PROPERTIES FIXTURES_REQUIRED primitives COST 200 TIMEOUT 7200)
endforeach()
