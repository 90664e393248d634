# Included by the top-level project: the target k2_plugin, one library for each LLVM with development files.
# A plugin that cannot be built is left out with a line that says so; the rest of the build never depends on it.

option(K2_PLUGIN "build the pass plugin for every LLVM found" ON)
set(K2_LLVM_DIRS "" CACHE STRING "folders with an LLVMConfig.cmake, beside those of /usr/lib/llvm-*")

add_custom_target(k2_plugin)
file(GLOB k2_llvm_configs LIST_DIRECTORIES false "/usr/lib/llvm-*/lib/cmake/llvm/LLVMConfig.cmake")
foreach(folder IN LISTS K2_LLVM_DIRS)
  list(APPEND k2_llvm_configs "${folder}/LLVMConfig.cmake")
endforeach()

foreach(config IN LISTS k2_llvm_configs)
  file(STRINGS "${config}" major REGEX "^set\\(LLVM_VERSION_MAJOR [0-9]+\\)")
  string(REGEX REPLACE "[^0-9]" "" major "${major}")
  if(NOT K2_PLUGIN OR NOT major OR major LESS 14)
    continue()
  endif()
  get_filename_component(llvm "${config}" DIRECTORY)
  set(build "${CMAKE_CURRENT_BINARY_DIR}/plugin-llvm${major}")
  set(library "${CMAKE_CURRENT_BINARY_DIR}/plugin/k2_plugin_llvm${major}.so")
  set(stamp "${build}.tried")
  add_custom_command(
    OUTPUT "${stamp}"
    COMMAND "${CMAKE_COMMAND}" "-DCXX=${CMAKE_CXX_COMPILER}" "-DCC=${CMAKE_C_COMPILER}" "-DLLVM=${llvm}"
            "-DSOURCE=${CMAKE_CURRENT_LIST_DIR}" "-DBUILD=${build}"
            "-DLIBRARY=${library}" "-DGENERATOR=${CMAKE_GENERATOR}"
            "-DMAKE=${CMAKE_MAKE_PROGRAM}" -P
            "${CMAKE_CURRENT_LIST_DIR}/attempt.cmake"
    COMMAND "${CMAKE_COMMAND}" -E touch "${stamp}"
    DEPENDS "${CMAKE_CURRENT_LIST_DIR}/plugin.cpp" "${CMAKE_CURRENT_LIST_DIR}/CMakeLists.txt"
            "${CMAKE_CURRENT_LIST_DIR}/attempt.cmake"
    COMMENT "pass plugin for LLVM ${major}"
    VERBATIM)
  add_custom_target(k2_plugin_llvm${major} ALL DEPENDS "${stamp}")
  add_dependencies(k2_plugin k2_plugin_llvm${major})
  install(FILES "${library}" DESTINATION llvm_bridge/plugin OPTIONAL)
endforeach()
