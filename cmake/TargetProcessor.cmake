# tidegate_target_processor(<variable>): the processor that is built for, as "x86", "arm" or "other".
#
# On macOS CMAKE_OSX_ARCHITECTURES decides, which pip sets from ARCHFLAGS: x86_64 can be built on an
# arm64 machine and the other way round, and CMAKE_SYSTEM_PROCESSOR names the machine all the same.
function(tidegate_target_processor variable)
  set(processor "${CMAKE_SYSTEM_PROCESSOR}")
  if(APPLE AND CMAKE_OSX_ARCHITECTURES)
    list(LENGTH CMAKE_OSX_ARCHITECTURES count)
    if(count GREATER 1)
      # Each architecture has its own kernels, and one set of compiler flags can't serve both.
      message(FATAL_ERROR "CMAKE_OSX_ARCHITECTURES=${CMAKE_OSX_ARCHITECTURES} names ${count} "
                          "architectures; build a wheel for each: ARCHFLAGS='-arch arm64'")
    endif()
    set(processor "${CMAKE_OSX_ARCHITECTURES}")
  endif()
  if(processor MATCHES "^(x86_64|AMD64|amd64)")
    set(${variable} x86 PARENT_SCOPE)
  elseif(processor MATCHES "^(aarch64|arm64|ARM64)")
    set(${variable} arm PARENT_SCOPE)
  else()
    set(${variable} other PARENT_SCOPE)
  endif()
endfunction()
