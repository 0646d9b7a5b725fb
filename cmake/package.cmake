# make deb: trimtab, libtrimtab0 and libtrimtab-dev, of the components of cmake/install.cmake. A folder configured with
# the preset package has Debian's prefix and folders.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_VENDOR trimtab)
set(CPACK_PACKAGE_CONTACT "trimtab maintainers <maintainers@trimtab.example>" CACHE STRING "Who made the packages")
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
  WORLD_READ WORLD_EXECUTE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL program runtime development)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(about "A small controller reads the residual stream of a prompt, decides whether
and how hard to push, and adds a direction to the stream inside the pass that
computes it. Where it does not act, the bits are those of the model alone.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME trimtab)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PROGRAM_DESCRIPTION "run a frozen language model and steer it\n${about}")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libtrimtab0)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "run and steer language models (shared library)\n${about}")
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libtrimtab-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "run and steer language models (development files)\n${about}")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
  "libtrimtab0 (= ${PROJECT_VERSION}), libjansson-dev, libpcre2-dev, libutf8proc-dev, libssl-dev")

# The loader's list is renewed by a trigger. (CPack adds scripts that do it once more, which cannot be turned off.)
file(WRITE ${PROJECT_BINARY_DIR}/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA ${PROJECT_BINARY_DIR}/triggers)

# What Debian wants of each package: its licence and what has changed.
if(TT_DEBIAN)
  find_program(TT_GZIP gzip REQUIRED)
  string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
  file(WRITE ${PROJECT_BINARY_DIR}/changelog "trimtab (${PROJECT_VERSION}) unstable; urgency=medium\n
  * /usr/share/doc/trimtab/CHANGELOG.md.gz says what changed.\n
 -- ${CPACK_PACKAGE_CONTACT}  ${date}\n")
  execute_process(COMMAND ${TT_GZIP} -9nc ${PROJECT_BINARY_DIR}/changelog
    OUTPUT_FILE ${PROJECT_BINARY_DIR}/changelog.gz)
  execute_process(COMMAND ${TT_GZIP} -9nc ${PROJECT_SOURCE_DIR}/CHANGELOG.md
    OUTPUT_FILE ${PROJECT_BINARY_DIR}/CHANGELOG.md.gz)
  install(FILES ${PROJECT_BINARY_DIR}/CHANGELOG.md.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/trimtab
    COMPONENT program)
  foreach(component program runtime development)
    string(TOUPPER ${component} upper)
    set(folder ${CMAKE_INSTALL_DATADIR}/doc/${CPACK_DEBIAN_${upper}_PACKAGE_NAME})
    install(FILES LICENSE RENAME copyright DESTINATION ${folder} COMPONENT ${component})
    install(FILES ${PROJECT_BINARY_DIR}/changelog.gz DESTINATION ${folder} COMPONENT ${component})
  endforeach()
endif()
include(CPack)
