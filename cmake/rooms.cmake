# tt_check_rooms(TARGET...): a part of the build that fails when the objects of these targets call from one room into
# another that cmake/rooms.txt does not allow. scripts/lint/layers.py looks at the symbols of objects that are compiled
# anyway; the same program looks at the #includes, without a build.
function(tt_check_rooms)
  find_package(Python3 COMPONENTS Interpreter)
  find_program(TT_NM nm)
  if(NOT Python3_FOUND OR NOT TT_NM)
    message(STATUS "Rooms: not checked, since python3 or nm is missing")
    return()
  endif()
  set(objects)
  foreach(target ${ARGN})
    # What cmake/embed.cmake made holds data alone.
    list(APPEND objects $<FILTER:$<TARGET_OBJECTS:${target}>,EXCLUDE,/generated/>)
  endforeach()
  set(scripts ${PROJECT_SOURCE_DIR}/scripts/lint)
  set(list ${PROJECT_BINARY_DIR}/rooms.objects)
  set(stamp ${PROJECT_BINARY_DIR}/rooms.checked)
  file(GENERATE OUTPUT ${list} CONTENT "$<JOIN:${objects},\n>\n")
  add_custom_command(OUTPUT ${stamp}
    DEPENDS ${ARGN} ${objects} ${list} ${PROJECT_SOURCE_DIR}/cmake/rooms.txt ${scripts}/layers.py ${scripts}/tree.py
    COMMAND ${Python3_EXECUTABLE} -B ${scripts}/layers.py --build ${PROJECT_BINARY_DIR} --list ${list}
    COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
    COMMENT "Who calls whom: cmake/rooms.txt" VERBATIM)
  add_custom_target(rooms ALL DEPENDS ${stamp})
endfunction()
