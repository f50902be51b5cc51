
# Appended to the vendor's Kbuild by Modulus. Each of the vendor's tests of the kernel is a compile
# of its own, for which make also evaluates the flags anew, by more compiles. Here all of them are
# answered at once, by the vendor's own script, before make looks what there is; what is missing
# then is made as ever.
ifdef MODULUS_RECIPE
ifdef NV_HEADER_PRESENCE_PART
ifeq ($(wildcard $(obj)/.modulus-conftest),)
_modulus_conftest := $(shell /bin/sh '$(MODULUS_RECIPE)/nvidia-conftest.sh' \
 '$(abspath $(obj))' "$(strip $(CC))" '$(ARCH)' '$(NV_KERNEL_SOURCES)' '$(NV_KERNEL_OUTPUT)' \
 '$(NV_CONFTEST_CFLAGS)' '$(NV_HEADER_PRESENCE_TESTS)' \
 '$(sort $(foreach kind,FUNCTION GENERIC MACRO SYMBOL TYPE,$(NV_CONFTEST_$(kind)_COMPILE_TESTS)))' \
 >/dev/null)
endif
endif
endif
