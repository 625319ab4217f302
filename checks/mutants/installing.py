"""Lines of what an install gives and reports that are broken."""

from mutants.mutation import Mutation

INSTALLING = [
    Mutation(
        "what freezes a program leaves the extension out",
        "transfer/__init__.py",
        "        import gzmqsource.transfer.native as native\n",
        "        native = __import__(f'{__name__}.native', fromlist=['version'])\n",
        "test_install.py::test_what_freezes_a_program_finds_every_module_and_the_extension",
    ),
    Mutation(
        "the extension of another version is used",
        "transfer/__init__.py",
        "    if version != __version__:\n",
        "    if False:\n",
        "test_install.py::test_an_extension_of_another_version_is_not_used",
    ),
    Mutation(
        "a compiler is asked for out of a zip",
        "transfer/__init__.py",
        "    if not folder.is_dir():\n",
        "    if False:\n",
        "test_install.py::"
        "test_an_extension_that_is_there_and_cannot_be_loaded_is_not_said_to_be_unbuilt",
    ),
    Mutation(
        "a compiler is asked for over pyzmq's cffi backend",
        "transfer/__init__.py",
        '    if not pyzmq.startswith("zmq.backend.cython"):\n',
        "    if False:\n",
        "test_platforms.py",
    ),
    Mutation(
        "what the package needs is a traceback",
        "cli/_command.py",
        "        except ImportError as error:\n",
        "        except ZeroDivisionError as error:\n",
        "cli/test_tools.py",
    ),
    Mutation(
        "the version is that of another copy",
        "cli/_command.py",
        "@click.version_option(__version__, ",
        '@click.version_option(package_name="gzmqsource", ',
        "cli/test_tools.py",
    ),
    Mutation(
        "each program that patches loads zmq",
        "monkey/__init__.py",
        "import warnings\n",
        "import warnings\n\nimport zmq\n",
        "test_platforms.py",
    ),
]
