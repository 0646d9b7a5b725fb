# tt_embed(OUT FILE...): a C source with the files' bytes, in OUT the path of it. A file DIR/NAME.EXT is
# `const struct tt_file tt_file_NAME_EXT` (base/embedded.h). As a script: cmake -D OUT=FILE -D "FILES=FILE;..." -P
# embed.cmake
if(CMAKE_SCRIPT_MODE_FILE)
  set(text "#include \"base/embedded.h\"\n")
  foreach(file ${FILES})
    get_filename_component(name ${file} NAME)
    string(MAKE_C_IDENTIFIER ${name} name)
    file(READ ${file} bytes HEX)
    string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(APPEND text "static const char ${name}[] = {\n${bytes}\n0x00};\n"
      "const struct tt_file tt_file_${name} = {${name}, sizeof ${name} - 1};\n")
  endforeach()
  file(WRITE ${OUT} "${text}")
  return()
endif()

set(TT_EMBED ${CMAKE_CURRENT_LIST_FILE})
function(tt_embed out)
  set(files ${ARGN})
  list(TRANSFORM files PREPEND ${PROJECT_SOURCE_DIR}/)
  set(source ${TT_GENERATED}/${out}.c)
  add_custom_command(OUTPUT ${source} DEPENDS ${files} ${TT_EMBED}
    COMMAND ${CMAKE_COMMAND} -D OUT=${source} "-DFILES=${files}" -P ${TT_EMBED}
    COMMENT "Embedding ${ARGN}" VERBATIM)
  set(${out} ${source} PARENT_SCOPE)
endfunction()
