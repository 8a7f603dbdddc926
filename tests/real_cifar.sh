# Source this from the project's folder before the tests: makes CIFAR's canonical binary files from ../shared/data, once,
# and points VIBTHEORY_DATA at them. Without that folder the tests with the real CIFAR are skipped, with a reason.
maker=../shared/tools/make_cifar_binary.py
if [ -z "${VIBTHEORY_DATA:-}" ] && [ -f "$maker" ]; then
    if [ ! -f build/cifar/cifar-100-binary/test.bin ]; then # written last
        .venv/bin/python "$maker" build/cifar >/dev/null || echo "real_cifar: could not be made, its tests are skipped" >&2
    fi
    [ ! -f build/cifar/cifar-100-binary/test.bin ] || export VIBTHEORY_DATA="$PWD/build/cifar"
fi
